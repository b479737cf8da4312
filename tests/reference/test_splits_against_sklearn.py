"""Stratified splits against scikit-learn's."""

import numpy as np
import pytest

from clipreid_kit.data import ImageRecord, split_images

model_selection = pytest.importorskip("sklearn.model_selection")
pytestmark = pytest.mark.reference


@pytest.mark.parametrize("seed", [0, 42, 7])
@pytest.mark.parametrize("fraction", [0.2, 0.35])
def test_the_same_images_are_taken(seed, fraction):
    sizes = np.random.default_rng(seed).integers(2, 9, size=150)
    rows = [
        (f"id_{identity:08}", number)
        for identity, size in enumerate(sizes)
        for number in range(size)
    ]
    order = np.random.default_rng(1).permutation(len(rows))
    records = [
        ImageRecord(f"img/{identity}_{number}.jpg", identity)
        for identity, number in (rows[n] for n in order)
    ]
    single = ImageRecord("img/alone.jpg", "id_alone")
    identities = [record.identity for record in records]
    _, taken = model_selection.train_test_split(
        [record.path for record in records],
        test_size=fraction,
        random_state=seed,
        stratify=identities,
    )
    manifest = split_images([single, *records], fraction=fraction, seed=seed)
    assert {f"img/{key}" for key in manifest.splits["val"]} == set(taken)
    assert "alone.jpg" in manifest.splits["train"]

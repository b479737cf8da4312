"""Copies and pickles of every public class, and a loader whose workers are spawned.

Spawned workers get a pickle of the data set, of its transforms and of the collate function.
"""

import copy
import pickle
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from same_state import first_difference
from test_options_set_later import CASES, CLASSES
from torch.utils.data import DataLoader

from clipreid_kit import PKSampler
from clipreid_kit.clip import ClipTowers
from clipreid_kit.data import (
    CaptionSampler,
    ImageRecord,
    ImageSpec,
    MinedDataset,
    MultiViewTransform,
    ReidDataset,
    StripeMasking,
    collate_mined,
    train_transform,
    warp_transform,
)
from clipreid_kit.retrieval import GalleryIndex

COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
}

# torch wraps the optimizer's step in a function that it does not copy; use state_dict.
SCHEDULERS = {"WarmupCosineLR", "WarmupMultiStepLR"}


def with_its_vocabulary(value):
    """Copies of towers read their vocabulary when they need it."""
    model = getattr(value, "model", value)
    for part in model.modules() if isinstance(model, torch.nn.Module) else ():
        if isinstance(part, ClipTowers):
            part.count_tokens("a coat")
    return value


@pytest.mark.unhooked  # checks of protocols ask for properties, which load what they hold
@pytest.mark.parametrize("name", sorted(CASES.keys() - SCHEDULERS))
def test_a_copy_holds_the_same(name, tmp_path):
    case = CASES[name]
    built = CLASSES[name](**(case.given(tmp_path) if callable(case.given) else case.given))
    case.before(built)
    with_its_vocabulary(built)

    for make, copied in COPIES.items():
        assert first_difference(built, with_its_vocabulary(copied(built))) is None, make


class Batch(NamedTuple):
    """A mined batch with what the workers found for it."""

    mined: Any
    keys: np.ndarray


class Collate:
    """Collate mined items, and search an index for the brightness of the anchors."""

    def __init__(self, index):
        self.index = index

    def __call__(self, items):
        mined = collate_mined(items)
        brightness = mined.image[:, 0].mean(dim=(1, 2, 3))
        queries = torch.stack([brightness, torch.ones_like(brightness)], dim=1)
        return Batch(mined, self.index.search(queries, k=2).keys)


@pytest.mark.slow  # the worker imports torch and the library anew
def test_spawned_workers_load_the_same_batches(tmp_path):
    records = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (12, 16), (60 * number, 9, 9)).save(path)
        records.append(ImageRecord(str(path), number // 2, caption="a red coat"))

    views = MultiViewTransform(
        train_transform(ImageSpec(image_size=(8, 6)), stripes=StripeMasking(0.5)), num_views=2
    )
    images = ReidDataset(
        records, views, cache=True, identity_transform=warp_transform(rotation=20.0)
    )
    captions = CaptionSampler(images.captions, synonyms={"coat": ["jacket"]})
    dataset = MinedDataset(
        images, torch.tensor([[0, 2], [1, 3], [2, 0], [3, 1]]), captions=captions
    )

    angles = torch.linspace(0, 3, 8)
    rows = torch.stack([angles.cos(), angles.sin()], dim=1)
    collate = Collate(GalleryIndex.build(rows, store=tmp_path / "gallery.index"))
    sampler = PKSampler(dataset.labels, num_identities=2, num_instances=2)
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=1,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )

    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        sampler.set_epoch(epoch)
        loaded = list(loader)
        here = [collate([dataset[row] for row in batch]) for batch in sampler]
        assert first_difference(loaded, here) is None

"""A map on frozen embeddings, from files of arrays."""

import numpy as np
import pytest

from examples.feature_adapter import LOSSES, main


def nuisance_features(first, identities, seed):
    """Embeddings whose first half says who it is, and whose larger second half is noise."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(200, 8))[first : first + identities]
    draw = np.random.default_rng(seed)
    rows = np.repeat(centres, 6, axis=0) + 0.3 * draw.normal(size=(6 * identities, 8))
    noise = 2 * draw.normal(size=(6 * identities, 8))
    ids = np.repeat(np.arange(first, first + identities), 6)
    return np.concatenate([rows, noise], axis=1).astype(np.float32), ids


@pytest.fixture
def files(tmp_path):
    embeddings, ids = nuisance_features(0, 60, 1)
    np.savez(tmp_path / "train.npz", embeddings=embeddings, ids=ids)
    embeddings, ids = nuisance_features(100, 30, 2)
    np.savez(tmp_path / "test.npz", embeddings=embeddings, ids=ids)

    is_query = np.arange(len(ids)) % 6 == 0
    sides = {"query_embeddings": embeddings[is_query], "query_ids": ids[is_query]}
    sides |= {"gallery_embeddings": embeddings[~is_query], "gallery_ids": ids[~is_query]}
    np.savez(tmp_path / "sides.npz", **sides)
    return [str(tmp_path / f"{name}.npz") for name in ("train", "test", "sides")]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_finds_what_is_noise(files, loss, capsys):
    frozen, adapted = main([files[0], files[1], "--loss", loss, "--steps", "150"])
    assert adapted.mean_ap > frozen.mean_ap + 0.1

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["frozen", "adapted"]


def test_queries_and_a_gallery_and_a_map_that_fails(files, capsys):
    frozen, adapted = main([files[0], files[2], "--hidden-dim", "8", "--steps", "150"])
    assert adapted.mean_ap > frozen.mean_ap + 0.1
    assert adapted.num_queries == 30

    # Labels without a meaning: what is learned is noise.
    shuffled = dict(np.load(files[0]))
    shuffled["ids"] = np.random.default_rng(0).permutation(shuffled["ids"])
    np.savez(files[0], **shuffled)
    clean = dict(np.load(files[1]))
    clean["embeddings"][:, 8:] = 0
    np.savez(files[1], **clean)
    frozen, adapted = main([files[0], files[1], "--hidden-dim", "64", "--steps", "300"])
    assert adapted.mean_ap < frozen.mean_ap
    assert capsys.readouterr().out.endswith("made the frozen embeddings WORSE.\n")

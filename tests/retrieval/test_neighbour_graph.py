"""Neighbour graphs of an index against brute force: copies, removed and chosen images."""

import numpy as np
import pytest

from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import GalleryIndex
from clipreid_kit.retrieval import neighbour_graph as module


def data(size, seed=0):
    """Rows of which half have copies: among these the first comes first."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((size, 4))
    return rows[rng.integers(0, size // 2 + 1, size)].astype(np.float32)


def by_loop(rows, k):
    """Neighbours of each row; copies are as similar as they are equal."""
    unit = rows.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    similarity = (unit @ unit.T).round(12)
    found = []
    for i in range(len(rows)):
        others = [j for j in range(len(rows)) if j != i]
        found.append(sorted(others, key=lambda j, i=i: (-similarity[i, j], j))[:k])
    return found


@pytest.mark.parametrize(("size", "k"), [(2, 1), (9, 1), (9, 4), (30, 29), (30, 50)])
def test_neighbours_are_those_of_a_loop(size, k, tmp_path):
    rows = data(size)
    graph = GalleryIndex.build(rows, None, store=tmp_path / "i").neighbours(k)
    assert graph.keys.tolist() == list(range(size))
    assert graph.neighbours.tolist() == by_loop(rows, min(k, size - 1))


def test_only_chosen_images_are_compared(tmp_path, monkeypatch):
    rows = data(40)
    records = [ImageRecord(f"{n}.jpg", n, camera=n % 2) for n in range(40)]
    index = GalleryIndex.build(rows[:25], records[:25], store=tmp_path / "i")
    index.add(rows[25:], records[25:])
    index.remove([4, 30])

    chosen = [n for n in range(0, 40, 2) if n not in (4, 30)]
    graph = index.neighbours(3, where={"camera": 0})
    assert graph.keys.tolist() == chosen
    assert graph.neighbours.tolist() == by_loop(rows[chosen], 3)

    monkeypatch.setattr(module, "_PAIRS", 7)
    again = index.neighbours(3, where={"camera": 0})
    np.testing.assert_array_equal(again.neighbours, graph.neighbours)
    np.testing.assert_array_equal(again.similarities, graph.similarities)


def test_one_image_and_none_have_no_neighbours(tmp_path):
    index = GalleryIndex.build(np.ones((3, 2), np.float32), None, store=tmp_path / "i")
    index.remove([0, 1])
    assert index.neighbours(5).neighbours.shape == (1, 0)
    index.remove([2])
    assert index.neighbours(5).neighbours.shape == (0, 0)
    with pytest.raises(ValueError, match="k"):
        index.neighbours(0)


def test_vectors_are_those_that_were_added(tmp_path):
    rows = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    index = GalleryIndex.build(rows[:4], None, store=tmp_path / "i")
    index.add(rows[4:])
    np.testing.assert_array_equal(index.vectors([5, 0, 4]), rows[[5, 0, 4]])
    assert index.vectors([]).shape == (0, 3)
    with pytest.raises(ValueError, match=r"GalleryIndex.rows: the index has no image with key 9"):
        index.vectors([9])

"""Exact search on a device: the same rows, and blocks that are kept or copied again."""

import numpy as np
import pytest
import torch
from row_sources import ArraySource, data

from clipreid_kit.retrieval import GalleryIndex
from clipreid_kit.retrieval.exact import device_rows
from clipreid_kit.retrieval.exact.certified_search import nearest_rows
from clipreid_kit.retrieval.exact.device_rows import DeviceRows, search_device

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["noise", "collapsed", "copies", "norms"])
@pytest.mark.parametrize("has_room", [True, False])
def test_a_device_finds_the_same_rows(device, kind, has_room, monkeypatch):
    rng = np.random.default_rng(7)
    rows = torch.from_numpy(data(kind, rng, 3000, 40))
    queries = torch.from_numpy(data(kind, rng, 12, 40))
    sources = [ArraySource(rows[:1700]), ArraySource(rows[1700:])]
    allowed = rng.random(3000) < 0.7
    monkeypatch.setattr(DeviceRows, "_has_room", lambda self: has_room)

    on_device = DeviceRows(torch.device(device))
    for wanted in (None, allowed):  # the second search uses the blocks of the first
        expected = nearest_rows(queries, sources, 9, wanted)
        found = nearest_rows(queries, sources, 9, wanted, on_device)
        np.testing.assert_array_equal(found[0], expected[0])
        assert found[1].tobytes() == expected[1].tobytes()
    assert len(on_device._kept) == (2 if has_room else 0)


@pytest.mark.parametrize("device", DEVICES)
def test_an_index_on_a_device(device, tmp_path):
    rows = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    index = GalleryIndex.build(rows, store=tmp_path / "index", device=device)
    assert index._store._on_device is not None
    exact = GalleryIndex.open(tmp_path / "index")
    opened = GalleryIndex.open(tmp_path / "index", device=device)
    for on_device in (index, opened):
        assert (on_device.search(rows[:5], 7).keys == exact.search(rows[:5], 7).keys).all()

    index.remove([0, 1])
    index.add(rows[:1])
    assert index.search(rows[0], 1).keys.tolist() == [[300]]


def test_devices_that_are_not_there(monkeypatch):
    with pytest.raises(ValueError, match=r"^Here: 'gpu' is not a device"):
        search_device("Here", "gpu")
    with pytest.raises(ValueError, match="not on 'mps'"):
        search_device("Here", "mps")

    monkeypatch.setattr(device_rows.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="no device 'cuda:3'; PyTorch sees 1 CUDA devices"):
        search_device("Here", "cuda:3")
    assert search_device("Here", "cuda").type == "cuda"

    with pytest.raises(ValueError, match="Milvus searches where it runs"):
        GalleryIndex.open("milvus:gallery.db", device="cpu")
    with pytest.raises(ValueError, match=r"^GalleryIndex.build: Milvus searches where it runs"):
        GalleryIndex.build(np.eye(2), store="milvus:gallery.db", device="cpu")

"""Images that are in an index several times."""

import numpy as np
import pytest

from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import GalleryIndex


@pytest.fixture
def index(tmp_path):
    """Six images: 1 and 4 have equal bytes, 5 is the file of 0; 2 and 3 look alike."""
    contents = [b"aa", b"bb", b"cc", b"dd", b"bb", b"aa"]
    names = ["a.png", "b.png", "c.png", "d.png", "copy of b.png", "a.png"]
    for name, content in zip(names, contents, strict=True):
        (tmp_path / name).write_bytes(content)
    records = [ImageRecord(str(tmp_path / name), n, camera=n % 2) for n, name in enumerate(names)]
    rows = np.random.default_rng(0).standard_normal((6, 16)).astype(np.float32)
    rows[3] = rows[2] + 0.05
    return GalleryIndex.build(rows, records, store=tmp_path / "i")


def groups(found):
    return [(group.reason, group.keys) for group in found]


def test_equal_files_are_found(index):
    found = index.duplicates()
    assert groups(found) == [("content", (0, 5)), ("content", (1, 4))]
    assert [path.rpartition("/")[2] for path in found[1].paths] == ["b.png", "copy of b.png"]
    assert found[0].as_dict()["keys"] == (0, 5)

    index.remove([5])
    assert groups(index.duplicates()) == [("content", (1, 4))]
    assert index.duplicates(where={"camera": 0}) == []


def test_similar_images_are_found_on_request(index):
    assert groups(index.duplicates(content=False, min_similarity=0.95)) == [("similarity", (2, 3))]
    assert [g.reason for g in index.duplicates(min_similarity=0.95)] == ["content"] * 2 + [
        "similarity"
    ]
    assert index.duplicates(content=False, min_similarity=0.9999) == []
    everything = index.duplicates(content=False, min_similarity=-1.0)
    assert groups(everything) == [("similarity", (0, 1, 2, 3, 4, 5))]


def test_files_that_are_gone(index, tmp_path):
    (tmp_path / "d.png").unlink()
    with pytest.raises(ValueError, match=r"1 files cannot be found, first .*d\.png"):
        index.duplicates()
    assert len(index.duplicates(on_error="skip")) == 2


def test_an_index_without_records(tmp_path):
    rows = np.ones((3, 2), np.float32)
    index = GalleryIndex.build(rows, None, store=tmp_path / "i")
    with pytest.raises(ValueError, match="the index has no records, so no files to compare"):
        index.duplicates()
    (group,) = index.duplicates(content=False, min_similarity=0.99)
    assert (group.keys, group.paths) == ((0, 1, 2), (None, None, None))

    index.remove([0, 1, 2])
    assert index.duplicates(content=False, min_similarity=0.99) == []
    assert index.duplicates() == []

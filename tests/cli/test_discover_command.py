"""Identities and duplicates of an index, on the command line."""

import json

import numpy as np
import pytest

from clipreid_kit.data import ImageRecord, read_csv
from clipreid_kit.retrieval import Calibration, GalleryIndex

CURVE = Calibration(
    "logistic", 0.1, (), (), 20.0, -10.0, 0.6, 0.55, 0.65, 0.01, 0.9, 0.02, (), 9, 99, 5
)


@pytest.fixture
def store(tmp_path):
    """Two pairs of images that look alike, and one that is alone; the last two files are equal."""
    rows = np.array([[1, 0], [0.99, 0.1], [-1, -1], [0, 1], [0.1, 0.99]], np.float32)
    records = []
    for number, content in enumerate([b"aa", b"bb", b"cc", b"dd", b"dd"]):
        path = tmp_path / f"{number}.png"
        path.write_bytes(content)
        records.append(ImageRecord(str(path), f"cat {number // 2}", camera=number % 2))
    GalleryIndex.build(rows, records, store=tmp_path / "gallery.index")
    return tmp_path / "gallery.index"


def test_discover_writes_a_table(clipreid, store, tmp_path):
    status, _, error = clipreid("discover", store, "--out", tmp_path / "found.csv")
    assert status == 1
    assert "the index has no calibration" in error
    assert error.count("\n") == 1

    GalleryIndex.open(store).set_calibration(CURVE)
    status, out, _ = clipreid("discover", store, "--out", tmp_path / "found.csv")
    assert status == 0
    lines = out.splitlines()
    assert lines[:2] == ["images             5", "found identities   2"]
    assert "known identities   3" in lines
    assert lines[-1] == f"{tmp_path / 'found.csv'}: 5 images"

    found = read_csv(tmp_path / "found.csv")
    names = ["id-00000", "id-00000", "id-00002", "id-00001", "id-00001"]
    assert [record.identity for record in found] == names
    assert found[4].extra["given_identity"] == "cat 2"


def test_options_of_discover(clipreid, store, tmp_path):
    options = ("--min-similarity", "0.9", "--unmatched", "leave-out", "--method", "threshold")
    out_file = tmp_path / "found.csv"
    assert clipreid("discover", store, "--out", out_file, *options)[0] == 0
    assert len(read_csv(out_file)) == 4

    where = ("--where", "identity=cat 1", "--unmatched", "unknown")
    status, out, _ = clipreid("discover", store, "--out", out_file, *options[:2], *where)
    assert status == 0
    assert "known identities" not in out
    assert [record.identity for record in read_csv(out_file)] == ["unknown", "unknown"]

    GalleryIndex.open(store).set_calibration(CURVE)
    few = ("--images-per-identity", "1", "--neighbours", "2", "--min-probability", "0.99")
    assert clipreid("discover", store, "--out", out_file, *few)[0] == 0
    assert len({record.identity for record in read_csv(out_file)}) == 5


def test_duplicates(clipreid, store):
    status, out, _ = clipreid("index", "duplicates", store)
    assert status == 0
    assert out.splitlines() == [
        "equal files:",
        f"       3  {store.parent / '3.png'}",
        f"       4  {store.parent / '4.png'}",
        f"{store}: 1 groups of duplicates",
    ]
    status, out, _ = clipreid("index", "duplicates", store, "--min-similarity", "0.9", "--json")
    found = json.loads(out)
    assert [group["reason"] for group in found] == ["content", "similarity", "similarity"]
    assert found[1]["keys"] == [0, 1]

    (store.parent / "0.png").unlink()
    assert clipreid("index", "duplicates", store)[0] == 1
    assert clipreid("index", "duplicates", store, "--on-error", "skip")[0] == 0

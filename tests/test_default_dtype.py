"""``torch.set_default_dtype`` of the user: new weights have it, and nothing else changes."""

import ast
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from gpu.test_evaluation import CAMERAS, LABELS, WORK, embeddings, plain
from same_state import first_difference
from test_default_device import OF_NEW_MODULES, SOURCE, functions_of, makes_tensor_of_torch

from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import GalleryIndex, calibrate
from clipreid_kit.retrieval.exact import certified_search

OF_WEIGHTS = OF_NEW_MODULES | {"words", "_initial_rows"}
OF_FLOATS = {"zeros", "ones", "empty", "full", "eye", "linspace", "rand", "randn"}


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


EVERY = pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)


def makes_floats(node):
    if not makes_tensor_of_torch(node) or node.func.attr not in OF_FLOATS:
        return False
    is_empty = bool(node.args) and ast.unparse(node.args[0]) == "0"
    return not is_empty


def test_every_tensor_of_floats_names_its_dtype():
    unnamed = []
    for path in sorted(SOURCE.rglob("*.py")):
        for function in functions_of(ast.parse(path.read_text(encoding="utf-8"))):
            if function.name in OF_WEIGHTS:
                continue
            for node in filter(makes_floats, ast.walk(function)):
                if "dtype" not in {word.arg for word in node.keywords}:
                    unnamed.append(f"{path.relative_to(SOURCE)}:{node.lineno}")

    assert unnamed == []


@EVERY
@pytest.mark.parametrize("name", WORK)
def test_evaluation_mining_and_samplers(name, dtype):
    inputs = embeddings(torch.float32), LABELS, CAMERAS
    expected = plain(WORK[name](*inputs))

    with default_dtype(dtype):
        found = plain(WORK[name](*inputs))

    np.testing.assert_equal(found, expected)


@EVERY
@pytest.mark.parametrize("small", [1 << 30, 0], ids=["float32", "codes"])
def test_search_and_calibration(tmp_path, monkeypatch, small, dtype):
    for name in ("_SMALL", "_SMALL_FOR_MANY"):
        monkeypatch.setattr(certified_search, name, small)
    rows = embeddings(torch.float32)
    records = [ImageRecord(f"{row}.jpg", int(LABELS[row])) for row in range(60)]
    index = GalleryIndex.build(rows, store=tmp_path / "gallery.index")

    def answers():
        curve = calibrate(rows, records, num_resamples=5)
        return index.search(rows[:1], k=3), index.search(rows[:9], k=3), curve

    expected = answers()
    with default_dtype(dtype):
        found = answers()
        assert torch.equal(index.vectors(range(60)), rows)

    assert first_difference(found, expected) is None

"""The examples in docstrings of examples/ are true."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "examples" / "report").glob("*.py"))


def test_some_modules_have_examples():
    assert sum(">>>" in path.read_text(encoding="utf-8") for path in FILES) >= 4


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_examples_are_true(path):
    module = importlib.import_module(f"examples.report.{path.stem}")
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0

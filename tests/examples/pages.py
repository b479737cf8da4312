"""The pages of the documentation, which a copy of the trainer is without."""

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
needs_pages = pytest.mark.skipif(not DOCS.is_dir(), reason="this folder has no pages")


def page(name):
    """The text of a page, such as ``recipes.md``."""
    if not DOCS.is_dir():
        pytest.skip("this folder has no pages")
    return (DOCS / name).read_text(encoding="utf-8")

"""Shell blocks of the pages that test_docs_shell.py leaves out, because they take minutes."""

import pytest
from test_docs_shell import DOCS, ELSEWHERE, MAKER, SHELL, folder, run_blocks

__all__ = ["folder"]  # a fixture

LONGEST = 1800  # seconds of a block: examples.md trains three models


@pytest.mark.skipif(not MAKER, reason="make is not installed")
@pytest.mark.parametrize("name", ELSEWHERE)
def test_shell_blocks_run(name, folder):
    page = DOCS / f"{name}.md"
    assert SHELL.search(page.read_text(encoding="utf-8"))
    run_blocks(page, folder, LONGEST)

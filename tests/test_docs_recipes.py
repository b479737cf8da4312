"""The page of all keys is made from the recipes' models, and every key has a meaning."""

import re
from pathlib import Path

from examples.settings.key_table import page

PAGE = Path(__file__).parents[1] / "docs" / "recipes" / "keys.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_table_of_keys_is_up_to_date():
    assert page(TEXT) == TEXT, "run python -m examples.settings.key_table"


def test_every_key_has_a_meaning_and_all_are_there():
    rows = re.findall(r"^\| `([a-z_.]+)` \|(.*)\|$", TEXT, re.M)
    assert len({name for name, _ in rows}) == len(rows) > 150
    for name, cells in rows:
        assert cells.rpartition("|")[2].strip(), name

"""The list that CUHK-PEDES, ICFG-PEDES and RSTPReid have in common, by the first."""

import pytest
import trees

from clipreid_kit.data import read_cuhk_pedes

ENTRY = {"split": "train", "id": 1, "file_path": "Market/3.jpg", "captions": ["a"]}


@pytest.mark.parametrize(
    ("content", "found"), [({"train": []}, "dict"), ([], "an empty list"), ("x", "str")]
)
def test_a_file_that_is_not_a_list_is_an_error(tmp_path, content, found):
    base = trees.cuhk_pedes(tmp_path, content)
    with pytest.raises(ValueError, match=rf"reid_raw\.json has to hold a list .*holds {found}\."):
        read_cuhk_pedes(base)


@pytest.mark.parametrize(
    ("entries", "number"),
    [
        (["x"], 1),
        ([{**ENTRY, "id": "1"}], 1),
        ([{**ENTRY, "id": True}], 1),
        ([{**ENTRY, "split": 7}], 1),
        ([{**ENTRY, "file_path": None}], 1),
        ([{**ENTRY, "captions": []}], 1),
        ([{**ENTRY, "captions": ["a", 2]}], 1),
        ([ENTRY, {key: value for key, value in ENTRY.items() if key != "split"}], 2),
    ],
)
def test_a_bad_entry_is_named(tmp_path, entries, number):
    base = trees.cuhk_pedes(tmp_path, entries)
    with pytest.raises(ValueError, match=rf"read_cuhk_pedes: entry {number} of reid_raw\.json is "):
        read_cuhk_pedes(base)


def test_a_damaged_file_is_an_error(tmp_path):
    base = trees.cuhk_pedes(tmp_path)
    trees.write(base, "reid_raw.json", "{")

    with pytest.raises(ValueError, match=r"reid_raw\.json is not valid JSON: "):
        read_cuhk_pedes(base)

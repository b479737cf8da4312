import math

import pytest

from clipreid_kit.data.readers._extra_values import is_empty, text_of, texts_of_others


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("red", "red"),
        ("", ""),
        (30, "30"),
        (True, "true"),
        (["x", "\u00e9"], '["x", "\u00e9"]'),
        ({"a": None}, '{"a": null}'),
    ],
)
def test_strings_stay_and_other_values_are_json(value, text):
    assert text_of(value) == text


def test_known_keys_and_empty_values_are_left_out():
    values = {"id": 7, "age": 30, "note": "", "colour": None, "size": 0}
    assert texts_of_others(values, ("id",)) == {"age": "30", "size": "0"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, True), ("", True), (math.nan, True), (" ", False), (0, False), ([], False)],
)
def test_is_empty(value, expected):
    assert is_empty(value) is expected

import math

import pytest

from clipreid_kit.data.readers._extra_values import (
    integer_or_name,
    is_empty,
    optional_text,
    text_of,
    texts_of_others,
)


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


def test_whole_numbers_and_names():
    assert integer_or_name("x", "identity", 7.0, "row 1") == 7
    assert integer_or_name("x", "identity", " rex ", "row 1") == "rex"
    assert integer_or_name("x", "identity", 2**60, "row 1") == 2**60


@pytest.mark.parametrize("value", [True, 7.5, float("inf"), [1], "", "  ", None])
def test_what_is_neither_number_nor_name_is_an_error(value):
    with pytest.raises(ValueError, match="x: expected identity as a whole number or a string"):
        integer_or_name("x", "identity", value, "row 1")


def test_a_float_that_may_have_lost_digits_is_an_error():
    with pytest.raises(ValueError, match="may have lost its last digits"):
        integer_or_name("x", "identity", 2.0**53, "row 1")


def test_optional_text():
    assert optional_text("x", "split", " train ", "row 1") == "train"
    assert optional_text("x", "split", "  ", "row 1") is None
    with pytest.raises(
        ValueError, match=r"x: expected split as a string, got \['train'\] in row 1"
    ):
        optional_text("x", "split", ["train"], "row 1")

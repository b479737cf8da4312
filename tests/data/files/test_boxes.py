import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data.files.boxes import Box, four_numbers, split_box, with_box


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.jpg", ("a.jpg", None)),
        ("a.jpg#xywh=1,2,3,4", ("a.jpg", Box(1, 2, 4, 6))),
        ("a.zip::b.jpg#xywh=-1,-2,30,4", ("a.zip::b.jpg", Box(-1, -2, 29, 2))),
        ("a#xywh=1,2,3.jpg", ("a#xywh=1,2,3.jpg", None)),
        ("a.jpg#xywh=1,2,3,4\n", ("a.jpg#xywh=1,2,3,4\n", None)),
    ],
)
def test_split_box(path, expected):
    assert split_box(path) == expected


@given(*[st.integers(-1000, 1000)] * 2, *[st.integers(1, 1000)] * 2)
def test_a_box_that_is_added_is_found(left, top, width, height):
    box = Box(left, top, left + width, top + height)
    path = with_box("reader", "a.jpg", (left, top, box.right, box.bottom), "row 1")
    assert split_box(path) == ("a.jpg", box)


def test_edges_are_rounded_and_not_sizes():
    assert with_box("reader", "a", (0.6, 0.4, 10.4, 9.5), "row 1") == "a#xywh=1,0,9,10"


@pytest.mark.parametrize("corners", [(5, 0, 5, 3), (0, 3, 5, 2), (0, 0, 0.4, 3)])
def test_a_box_without_a_pixel_is_an_error(corners):
    with pytest.raises(ValueError, match=r"reader: the box .* in row 7 .* holds no pixel"):
        with_box("reader", "a", corners, "row 7")


def test_a_box_without_end_is_an_error():
    with pytest.raises(ValueError, match="reader: expected a box of finite numbers in row 7"):
        with_box("reader", "a", (0, 0, float("inf"), 1), "row 7")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1,2,3,4", (1, 2, 3, 4)),
        (" [1.5, -2, .5, 4e1] ", (1.5, -2, 0.5, 40)),
        ("(1 2 3 4)", (1, 2, 3, 4)),
        ([1, 2, 3, 4], (1, 2, 3, 4)),
        ("", None),
        (None, None),
        (float("nan"), None),
    ],
)
def test_four_numbers(value, expected):
    assert four_numbers("reader", value, "row 1") == expected


@pytest.mark.parametrize(
    "value",
    ["1,2,3", "1,2,3,x", [1, 2, "3", 4], [1, "x", 2, 3, 4], [True, 1, 5, 5], "1,2,3,4,5", 7],
)
def test_other_numbers_are_an_error(value):
    with pytest.raises(ValueError, match="reader: expected a box of four numbers in row 1"):
        four_numbers("reader", value, "row 1")

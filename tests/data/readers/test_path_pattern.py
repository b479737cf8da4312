import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data.readers._path_pattern import compile_pattern


@pytest.mark.parametrize(
    ("template", "path", "fields"),
    [
        (
            "{identity}_c{camera}*.jpg",
            "0002_c1s1_000451_03.jpg",
            {"identity": "0002", "camera": "1"},
        ),
        (
            "{identity}_c{camera}*.jpg",
            "0002_c12s1_000451_03.jpg",
            {"identity": "0002", "camera": "12"},
        ),
        ("{identity}_c{camera}*.jpg", "0002_cEASTs.jpg", {"identity": "0002", "camera": "EASTs"}),
        ("{identity}_c{camera}*.jpg", "in/0002_c1.jpg", None),
        ("{identity}_c{camera}*.jpg", "0002_c1.png", None),
        ("**/{identity}_c{camera}*.jpg", "a/b/0002_c1.jpg", {"identity": "0002", "camera": "1"}),
        (
            "{split}/{identity}/{camera}_?.png",
            "query/rex/door_1.png",
            {"split": "query", "identity": "rex", "camera": "door"},
        ),
        ("{split}/{identity}/{camera}_?.png", "query/rex/door_12.png", None),
        ("{identity}/{identity}_*.jpg", "rex/rex_1.jpg", {"identity": "rex"}),
        ("{identity}/{identity}_*.jpg", "rex/tom_1.jpg", None),
        ("{identity}.v2+(1).jpg", "rex.v2+(1).jpg", {"identity": "rex"}),
        ("{identity}.v2+(1).jpg", "rexxv22(1).jpg", None),
        ("{identity}_{weather}.jpg", "a_b_c.jpg", {"identity": "a", "weather": "b_c"}),
        (re.compile(r"(?P<identity>\d+)-"), "in/007-x.jpg", {"identity": "007"}),
    ],
)
def test_a_pattern_finds_its_fields(template, path, fields):
    match = compile_pattern("x", template).expression.search(path)
    assert (match and match.groupdict()) == fields


@given(st.text(st.characters(exclude_characters="{}*?/\n", exclude_categories=["Cs"]), max_size=8))
def test_text_in_a_template_is_matched_literally(text):
    match = compile_pattern("x", f"{{identity}}/{text}.jpg").expression.search(f"rex/{text}.jpg")
    assert match["identity"] == "rex"


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("*.jpg", r"the pattern '\*\.jpg' has no field identity\. Write {identity}"),
        (re.compile("(?P<camera>1)"), r"the pattern '\(\?P<camera>1\)' has no field identity"),
        ("{identity}{camera}.jpg", "two fields in .* have nothing between them"),
        ("{identity}_{}.jpg", r"\{\} in '{identity}_{}\.jpg' is not a field"),
        ("{identity}_{1}.jpg", r"\{1\} in .* is not a field"),
        ("{identity}" + "a" * 10**6, r"the pattern has 1000010 characters, more than the limit"),
    ],
)
def test_a_bad_pattern_is_explained(pattern, problem):
    with pytest.raises(ValueError, match=f"x: {problem}"):
        compile_pattern("x", pattern)

import re

import pytest
import trees
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord, read_folder
from clipreid_kit.data.readers._pattern import compile_pattern


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
def test_a_template_finds_its_fields(template, path, fields):
    match = compile_pattern("x", template).search(path)
    assert (match and match.groupdict()) == fields


@given(st.text(st.characters(exclude_characters="{}*?/\n", exclude_categories=["Cs"]), max_size=8))
def test_text_in_a_template_stands_for_itself(text):
    match = compile_pattern("x", f"{{identity}}/{text}.jpg").search(f"rex/{text}.jpg")
    assert match["identity"] == "rex"


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("*.jpg", "a field named identity, got '.*jpg'. Write {identity}"),
        (re.compile("(?P<camera>1)"), "a field named identity"),
        ("{identity}{camera}.jpg", "text or a wildcard between two fields"),
        ("{identity}_{}.jpg", "a name in each pair of braces, got '{}' in"),
        ("{identity}_{1}.jpg", "a name in each pair of braces, got '.1.' in"),
    ],
)
def test_a_bad_pattern_is_explained(pattern, problem):
    with pytest.raises(ValueError, match=f"x: expected .*{problem}"):
        compile_pattern("x", pattern)


def test_a_folder_and_an_archive_by_pattern(tmp_path):
    base = trees.fill(
        tmp_path / "set", "b_c2.jpg", "a_c1.JPG", "in/c_c10_x.jpg", "notes.txt", ".hidden_c1.jpg"
    )
    pattern = "**{identity}_c{camera}*.*"
    expected = [("a", 1), ("b", 2), ("in/c", 10)]
    with pytest.raises(ValueError, match="to match"):
        read_folder(base, pattern="{identity}_c{camera}*.*")
    loose = re.compile(r"(?P<identity>.+)_c(?P<camera>\d+)")
    records = read_folder(base, pattern=loose, split="gallery")
    assert [(r.identity, r.camera) for r in records] == expected
    assert records[0] == ImageRecord(f"{base}/a_c1.JPG", "a", 1, split="gallery")
    packed = read_folder(trees.pack(base, tmp_path / "set.zip"), pattern=loose)
    assert packed[0].path == f"{tmp_path}/set.zip::set/a_c1.JPG"
    assert [r.camera for r in packed] == [1, 2, 10]
    assert len(read_folder(base, pattern=pattern)) == 3


def test_every_field_has_its_place(tmp_path):
    base = trees.fill(tmp_path, "query/rex/front-red coat-rain-01.jpg")
    (record,) = read_folder(
        base, pattern="{split}/{identity}/{view}-{caption}-{weather}-{camera}.jpg"
    )
    assert record == ImageRecord(
        f"{base}/query/rex/front-red coat-rain-01.jpg",
        "rex",
        "01",
        "front",
        "red coat",
        "query",
        {"weather": "rain"},
    )


def test_images_that_do_not_match(tmp_path):
    base = trees.fill(tmp_path, "a_1.jpg", "b_2.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg")
    with pytest.raises(
        ValueError,
        match=r"to match '{identity}_\*\.jpg', got 4 of 6 that do not: c\.jpg, d\.jpg, e\.jpg, \.\.\.\. .*skip",
    ):
        read_folder(base, pattern="{identity}_*.jpg")
    assert [
        r.identity for r in read_folder(base, pattern="{identity}_*.jpg", unmatched="skip")
    ] == ["a", "b"]
    with pytest.raises(ValueError, match="got 6 of 6 that do not"):
        read_folder(base, pattern="{identity}_*.png", unmatched="skip")


def test_a_camera_that_is_not_there_is_unknown(tmp_path):
    base = trees.fill(tmp_path, "a_c3.jpg", "b.jpg")
    records = read_folder(base, pattern=re.compile(r"(?P<identity>\w)(?:_c(?P<camera>\d))?\."))
    assert [(r.identity, r.camera) for r in records] == [("a", 3), ("b", None)]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"splits": ("train",)}, "pattern, or splits and camera_pattern, got both. Write"),
        ({"camera_pattern": "(?P<camera>1)"}, "pattern, or splits and camera_pattern, got both"),
        ({"split": "train"}, r"split, or {split} in the pattern, got both"),
    ],
)
def test_options_that_contradict_a_pattern(tmp_path, options, problem):
    trees.fill(tmp_path, "train/rex_1.jpg")
    with pytest.raises(ValueError, match=f"read_folder: expected {problem}"):
        read_folder(tmp_path, pattern="{split}/{identity}_*.jpg", **options)


@pytest.mark.unhooked
def test_another_word_for_unmatched(tmp_path):
    with pytest.raises(ValueError, match="unmatched to be one of raise, skip"):
        read_folder(tmp_path, pattern="{identity}.jpg", unmatched="ignore")


def test_no_images_at_all(tmp_path):
    with pytest.raises(ValueError, match=r"images in .*, got an empty folder"):
        read_folder(tmp_path, pattern="{identity}.jpg")
    trees.fill(tmp_path, "a.heic")
    with pytest.raises(ValueError, match=r"got none among 1 files\. Images end in"):
        read_folder(tmp_path, pattern="{identity}.jpg")

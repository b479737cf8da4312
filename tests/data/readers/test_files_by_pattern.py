import re
import zipfile

import pytest
import trees

from clipreid_kit.data import ImageRecord, read_folder

LOOSE = re.compile(r"(?P<identity>.+)_c(?P<camera>\d+)")


@pytest.fixture
def folder(tmp_path):
    return trees.fill(
        tmp_path / "set", "b_c2.jpg", "a_c1.JPG", "in/c_c10_x.jpg", "notes.txt", ".hidden_c1.jpg"
    )


def test_a_regular_expression_is_searched_for(folder):
    records = read_folder(folder, pattern=LOOSE, split="gallery")

    assert records[0] == ImageRecord(f"{folder}/a_c1.JPG", "a", 1, split="gallery")
    assert [(record.identity, record.camera) for record in records] == [
        ("a", 1),
        ("b", 2),
        ("in/c", 10),
    ]


def test_a_template_matches_the_whole_path(folder):
    assert len(read_folder(folder, pattern="**{identity}_c{camera}*.*")) == 3

    with pytest.raises(ValueError, match=r"1 of 3 images do not match the pattern .*: in/c_c10_x"):
        read_folder(folder, pattern="{identity}_c{camera}*.*")


def test_an_archive_is_read_like_the_folder(folder, tmp_path):
    records = read_folder(trees.pack(folder, tmp_path / "set.zip"), pattern=LOOSE)

    assert records[0].path == f"{tmp_path}/set.zip::set/a_c1.JPG"
    assert [record.camera for record in records] == [1, 2, 10]


@pytest.fixture(params=["", "photos/"])
def flat_archive(request, tmp_path):
    """An archive of two images at the top, or inside one folder that holds everything."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("7_c1.jpg", "8_c2.jpg"):
            archive.writestr(request.param + name, "")
    return tmp_path / "a.zip"


def test_a_pattern_starts_below_the_folder_that_holds_all_of_an_archive(flat_archive):
    records = read_folder(flat_archive, pattern="{identity}_c{camera}.jpg")
    assert [(record.identity, record.camera) for record in records] == [("7", 1), ("8", 2)]


def test_a_pattern_may_also_name_that_folder(folder, tmp_path):
    file = trees.pack(folder, tmp_path / "set.zip")
    records = read_folder(file, pattern="set/{identity}_c{camera}.*", unmatched="skip")

    assert [record.identity for record in records] == ["a", "b"]


def test_a_pattern_that_no_image_of_an_archive_matches_is_an_error(flat_archive):
    message = r"2 of 2 images do not match the pattern '{identity}-{camera}\.jpg'"
    with pytest.raises(ValueError, match=message):
        read_folder(flat_archive, pattern="{identity}-{camera}.jpg")


def test_every_field_has_its_place(tmp_path):
    trees.fill(tmp_path, "query/rex/front-red coat-rain-01.jpg")
    pattern = "{split}/{identity}/{view}-{caption}-{weather}-{camera}.jpg"

    (record,) = read_folder(tmp_path, pattern=pattern)
    assert record == ImageRecord(
        f"{tmp_path}/query/rex/front-red coat-rain-01.jpg",
        "rex",
        camera="01",
        view="front",
        caption="red coat",
        split="query",
        extra={"weather": "rain"},
    )


def test_an_optional_camera_that_is_missing_is_none(tmp_path):
    base = trees.fill(tmp_path, "a_c3.jpg", "b.jpg")
    optional = re.compile(r"(?P<identity>\w)(?:_c(?P<camera>\d))?\.")

    records = read_folder(base, pattern=optional)
    assert [(record.identity, record.camera) for record in records] == [("a", 3), ("b", None)]


@pytest.fixture
def half_matching(tmp_path):
    return trees.fill(tmp_path, "a_1.jpg", "b_2.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg")


def test_images_that_do_not_match_are_an_error(half_matching):
    message = (
        r"4 of 6 images do not match the pattern '{identity}_\*\.jpg': c\.jpg, d\.jpg, e\.jpg, "
        r'\.\.\.\. .*unmatched="skip"'
    )
    with pytest.raises(ValueError, match=message):
        read_folder(half_matching, pattern="{identity}_*.jpg")


def test_images_that_do_not_match_can_be_left_out(half_matching):
    records = read_folder(half_matching, pattern="{identity}_*.jpg", unmatched="skip")
    assert [record.identity for record in records] == ["a", "b"]


def test_a_pattern_that_no_image_matches_is_an_error(half_matching):
    with pytest.raises(ValueError, match=r"6 of 6 images do not match .*Change the pattern\.$"):
        read_folder(half_matching, pattern="{identity}_*.png", unmatched="skip")


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"there are no images in .* \(it is empty\)"):
        read_folder(tmp_path, pattern="{identity}.jpg")

    trees.fill(tmp_path, "a.jxl")
    with pytest.raises(ValueError, match=r"\(none of its 1 files is one\)\. Images end in"):
        read_folder(tmp_path, pattern="{identity}.jpg")

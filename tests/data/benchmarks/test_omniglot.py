import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from clipreid_kit.data import check_files, check_splits, load_image, read_omniglot, records_of

ARCHIVE = Path(__file__).parents[3].parent / "shared" / "data" / "omniglot-reid.zip"
real_data = pytest.mark.skipif(
    not ARCHIVE.is_file(), reason="omniglot-reid.zip is not in shared/data beside the repository"
)

NAMES = [
    f"{part}/{alphabet}/{character}/0{number}_{drawer:02}.png"
    for part, alphabet in (("train", "Greek"), ("train", "Latin"), ("test", "Tifinagh"))
    for number, character in enumerate(("character01", "character02"))
    for drawer in (1, 4, 5, 20)
]


def pack(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return path


@pytest.fixture
def archive(tmp_path):
    names = [f"omniglot-reid/{name}" for name in reversed(NAMES)]
    return pack(tmp_path / "set.zip", ["LICENSE", *names])


def rows(records):
    """The fields of records, with paths below the folder of the set."""
    found = []
    for record in records:
        path = record.path.rpartition("omniglot-reid/")[2]
        found.append((path, record.identity, record.camera, record.split, record.extra))
    return found


def test_the_fields_of_a_drawing(archive):
    record = read_omniglot(archive)[3]

    assert (record.identity, record.camera, record.split) == ("Greek/character01", 20, "train")
    assert record.extra == {"alphabet": "Greek"}
    assert record.path == f"{archive}::omniglot-reid/train/Greek/character01/00_20.png"


def test_training_comes_first_in_sorted_order(archive):
    paths = [row[0] for row in rows(read_omniglot(archive))]
    assert paths == sorted(NAMES, key=lambda name: (name.startswith("test"), name))


@pytest.mark.parametrize(("query_drawers", "queries"), [(4, {1, 4}), (1, {1})])
def test_the_first_drawers_of_the_test_are_queries(archive, query_drawers, queries):
    records = read_omniglot(archive, query_drawers=query_drawers)

    assert {record.camera for record in records_of(records, "query")} == queries
    assert {record.camera for record in records_of(records, "gallery")} == {1, 4, 5, 20} - queries


def test_held_out_alphabets_leave_training(archive):
    records = read_omniglot(archive, held_out_alphabets=("Greek",))
    greek = {record.split for record in records if record.extra["alphabet"] == "Greek"}
    latin = {record.split for record in records if record.extra["alphabet"] == "Latin"}

    assert greek == {"val_query", "val_gallery"}
    assert latin == {"train"}
    assert {record.camera for record in records_of(records, "val_query")} == {1, 4}
    check_splits(records, query="val_query", gallery="val_gallery")


def test_archive_and_folder_give_the_same(archive, tmp_path):
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "unpacked")
    folder = tmp_path / "unpacked" / "omniglot-reid"
    expected = rows(read_omniglot(archive))

    assert rows(read_omniglot(folder)) == expected
    assert rows(read_omniglot(folder.parent)) == expected


def test_all_images_exist(archive, tmp_path):
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "unpacked")

    check_files(read_omniglot(archive))
    check_files(read_omniglot(tmp_path / "unpacked"))


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ([], r"there is no train drawing at omniglot-reid/.*; found 0 files: no files\."),
        (
            ["images/a.png"],
            r"there is no train drawing at .*set\.zip; found 1 files: images/a\.png\.",
        ),
        (["train/Greek/c/1_01.png"], "there is no test drawing at .*found 1 files"),
        (
            [*NAMES, "train/Greek/a.png"],
            r"1 images in .*set\.zip are not at omniglot-reid/.*, such as train/Greek/a\.png\.",
        ),
        ([*NAMES, "test/Greek/c/1_xx.png"], "1 images in .* are not at"),
    ],
)
def test_another_layout_is_explained(tmp_path, names, problem):
    with pytest.raises(ValueError, match=f"read_omniglot: {problem}"):
        read_omniglot(pack(tmp_path / "set.zip", names))


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"read_omniglot: there is nothing at .*none\.zip"):
        read_omniglot(tmp_path / "none.zip")


def test_a_broken_archive_is_named(tmp_path):
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(ValueError, match=r"text\.zip: BadZipFile: File is not a zip file"):
        read_omniglot(tmp_path / "text.zip")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"query_drawers": 0}, "query_drawers as a whole number >= 1, got 0"),
        ({"held_out_alphabets": ("Latn",)}, "held_out_alphabets among Greek, Latin, got 'Latn'"),
        (
            {"held_out_alphabets": ("Tifinagh",)},
            "held_out_alphabets among Greek, Latin, got 'Tifinagh'",
        ),
        ({"held_out_alphabets": "Greek"}, r".*One alphabet: held_out_alphabets=\('Greek',\)"),
    ],
)
def test_wrong_options_are_explained(archive, options, problem):
    with pytest.raises(ValueError, match=f"read_omniglot: expected {problem}"):
        read_omniglot(archive, **options)


@real_data
def test_the_real_set_has_the_documented_numbers():
    records = read_omniglot(ARCHIVE)
    assert Counter(record.split for record in records) == {
        "train": 136 * 20,
        "query": 106 * 4,
        "gallery": 106 * 16,
    }

    trained = Counter(record.identity for record in records_of(records, "train"))
    tested = Counter(record.identity for record in records if record.split != "train")
    assert (len(trained), set(trained.values())) == (136, {20})
    assert (len(tested), set(tested.values())) == (106, {20})


@real_data
def test_the_real_set_is_sound():
    records = read_omniglot(ARCHIVE)
    check_splits(records)
    check_files(records)


@real_data
def test_a_real_drawing_is_black_on_white():
    pixels = np.asarray(load_image(read_omniglot(ARCHIVE)[0].path))

    assert pixels.shape == (105, 105, 3)
    assert set(np.unique(pixels)) == {0, 255}
    assert pixels.mean() > 200

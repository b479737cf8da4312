import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from clipreid_kit.data import check_files, check_splits, load_image, read_omniglot, records_of

_ARCHIVE = Path(__file__).parents[2].parent / "shared" / "data" / "omniglot-reid.zip"
real = pytest.mark.skipif(
    not _ARCHIVE.is_file(), reason="omniglot-reid.zip is not in shared/data beside the repository"
)

_NAMES = [
    f"{part}/{alphabet}/{character}/0{number}_{drawer:02}.png"
    for part, alphabet in (("train", "Greek"), ("train", "Latin"), ("test", "Tifinagh"))
    for number, character in enumerate(("character01", "character02"))
    for drawer in (1, 4, 5, 20)
]


def _pack(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return path


@pytest.fixture
def archive(tmp_path):
    return _pack(
        tmp_path / "set.zip", ["LICENSE", *(f"omniglot-reid/{name}" for name in reversed(_NAMES))]
    )


def _rows(records):
    return [
        (r.identity, r.camera, r.split, r.extra, r.path.rpartition("omniglot-reid/")[2])
        for r in records
    ]


def test_the_fields_of_a_drawing(archive):
    record = read_omniglot(archive)[3]
    assert (record.identity, record.camera, record.split) == ("Greek/character01", 20, "train")
    assert record.extra == {"alphabet": "Greek"}
    assert record.path == f"{archive}::omniglot-reid/train/Greek/character01/00_20.png"


def test_train_comes_first_in_sorted_order(archive):
    assert [row[-1] for row in _rows(read_omniglot(archive))] == sorted(
        _NAMES, key=lambda name: (name.startswith("test"), name)
    )


def test_test_drawers_are_query_and_gallery(archive):
    splits = {(r.camera, r.split) for r in read_omniglot(archive) if r.split != "train"}
    assert splits == {(1, "query"), (4, "query"), (5, "gallery"), (20, "gallery")}
    narrow = {
        (r.camera, r.split) for r in read_omniglot(archive, query_drawers=1) if r.split != "train"
    }
    assert narrow == {(1, "query"), (4, "gallery"), (5, "gallery"), (20, "gallery")}


def test_held_out_alphabets_leave_training(archive):
    records = read_omniglot(archive, held_out_alphabets=("Greek",))
    assert {r.split for r in records if r.extra["alphabet"] == "Greek"} == {
        "val_query",
        "val_gallery",
    }
    assert {r.split for r in records if r.extra["alphabet"] == "Latin"} == {"train"}
    assert {r.camera for r in records_of(records, "val_query")} == {1, 4}
    check_splits(records, query="val_query", gallery="val_gallery")


def test_zip_and_folder_give_the_same(archive, tmp_path):
    with zipfile.ZipFile(archive) as pack:
        pack.extractall(tmp_path / "unpacked")
    inside = tmp_path / "unpacked" / "omniglot-reid"
    assert (
        _rows(read_omniglot(archive))
        == _rows(read_omniglot(inside))
        == _rows(read_omniglot(inside.parent))
    )
    check_files(read_omniglot(archive))
    check_files(read_omniglot(inside))


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ([], r"drawings at omniglot-reid/\{train,test\}/.*, got none for train among no files"),
        (["images/a.png"], r"got none for train among 1 files in .*set.zip, such as images/a\.png"),
        (["train/Greek/c/1_01.png"], "got none for test among 1 files"),
        (
            [*_NAMES, "train/Greek/a.png"],
            r"every picture at .*, got 1 named otherwise in .*such as train/Greek/a\.png",
        ),
        ([*_NAMES, "test/Greek/c/1_xx.png"], "got 1 named otherwise"),
    ],
)
def test_another_layout_says_what_was_found(tmp_path, names, problem):
    with pytest.raises(ValueError, match=f"read_omniglot: expected .*{problem}"):
        read_omniglot(_pack(tmp_path / "set.zip", names))


def test_missing_and_broken_archives_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"read_omniglot: expected .*, got nothing at .*none\.zip"):
        read_omniglot(tmp_path / "none.zip")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(
        ValueError, match=r"text\.zip to be a zip archive or a folder, got File is not a zip file"
    ):
        read_omniglot(tmp_path / "text.zip")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"query_drawers": 0}, "query_drawers >= 1, got 0"),
        ({"held_out_alphabets": ("Latn",)}, "held_out_alphabets among Greek, Latin, got 'Latn'"),
        (
            {"held_out_alphabets": ("Tifinagh",)},
            "held_out_alphabets among Greek, Latin, got 'Tifinagh'",
        ),
        ({"held_out_alphabets": "Greek"}, r"One alphabet: held_out_alphabets=\('Greek',\)"),
    ],
)
def test_wrong_options_are_explained(archive, options, problem):
    with pytest.raises(ValueError, match=f"read_omniglot: expected .*{problem}"):
        read_omniglot(archive, **options)


@real
def test_the_real_counts():
    records = read_omniglot(_ARCHIVE)
    assert Counter(r.split for r in records) == {
        "train": 136 * 20,
        "query": 106 * 4,
        "gallery": 106 * 16,
    }
    trained = Counter(r.identity for r in records_of(records, "train"))
    assert len(trained) == 136
    assert set(trained.values()) == {20}
    tested = Counter(r.identity for r in records if r.split != "train")
    assert len(tested) == 106
    assert set(tested.values()) == {20}
    check_splits(records)
    check_files(records)


@real
def test_a_real_drawing_is_black_on_white():
    pixels = np.asarray(load_image(read_omniglot(_ARCHIVE)[0].path))
    assert pixels.shape == (105, 105, 3)
    assert set(np.unique(pixels)) == {0, 255}
    assert pixels.mean() > 200

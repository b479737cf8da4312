"""What holds of every reader of a benchmark; what is particular to one is in a file of its own."""

import shutil

import pytest
import trees

from clipreid_kit import data
from clipreid_kit.data import check_files

READERS = {
    "read_market1501": (trees.market1501, {}),
    "read_cuhk03": (trees.cuhk03, {"boxes": "detected"}),
    "read_veri776": (trees.veri776, {}),
    "read_msmt17": (trees.msmt17, {"merge_val": True}),
    "read_vehicleid": (trees.vehicleid, {}),
    "read_inshop": (trees.inshop, {}),
    "read_hands11k": (trees.hands11k, {}),
    "read_polyu_hands": (trees.polyu_hands, {}),
    "read_online_products": (trees.online_products, {}),
    "read_cuhk_pedes": (trees.cuhk_pedes, {}),
}
every = pytest.mark.parametrize("name", READERS)


def _read(name, path, counts="ignore"):
    return getattr(data, name)(path, counts=counts, **READERS[name][1])


def _rows(records, base):
    return [
        (r.path.replace("::", "/").partition(base.name)[2], r.identity, r.camera, r.split, r.extra)
        for r in records
    ]


def test_every_reader_of_a_benchmark_is_tested_here():
    others = {
        "read_annotations",
        "read_captioned_folder",
        "read_csv",
        "read_folder",
        "read_omniglot",
        "read_split",
        "read_table",
    }
    readers = {name for name in data.__all__ if name.startswith("read_")}
    assert readers - others == set(READERS)


@every
def test_the_folder_the_one_above_and_the_archive_give_the_same(tmp_path, name):
    base = READERS[name][0](tmp_path / "set")
    records = _read(name, base)
    assert len(records) >= 3
    check_files(records)
    archive = trees.pack(base, tmp_path / "archive.zip")
    assert _rows(_read(name, base.parent), base) == _rows(records, base)
    packed = _read(name, archive)
    assert _rows(packed, base) == _rows(records, base)
    check_files(packed)


@every
def test_a_relative_path_stays_relative(tmp_path, monkeypatch, name):
    base = READERS[name][0](tmp_path)
    monkeypatch.chdir(base.parent)
    assert all(record.path.startswith(base.name) for record in _read(name, base.name))


@every
def test_another_layout_says_what_was_looked_for_and_found(tmp_path, name):
    base = READERS[name][0](tmp_path / "set")
    needed = next(
        entry
        for entry in sorted(base.rglob("*"))
        if entry.is_dir() or entry.suffix in (".txt", ".csv", ".json")
    )
    for entry in sorted(base.rglob("*"), reverse=True):
        if entry.name in (
            "bounding_box_test",
            "image_test",
            "image",
            "Hands",
            "502-712",
            "Ebay_test.txt",
            "imgs",
            "Eval",
            "list_val.txt",
        ):
            needed = entry
    shutil.rmtree(needed) if needed.is_dir() else needed.unlink()
    with pytest.raises(
        ValueError, match=rf"{name}: expected .* there, without .*{needed.name}.*\. Give the folder"
    ):
        _read(name, base)


@every
def test_nothing_and_an_empty_folder(tmp_path, name):
    with pytest.raises(
        ValueError,
        match=rf"{name}: expected a folder or zip archive with .*, got nothing at .*none",
    ):
        _read(name, tmp_path / "none")
    with pytest.raises(ValueError, match=rf"{name}: expected .*, got no files there, without"):
        _read(name, tmp_path)
    broken = trees.write(tmp_path, "set.zip", "no archive")
    with pytest.raises(
        ValueError, match=rf"{name}: expected .*set\.zip to be a zip archive or a folder"
    ):
        _read(name, broken)


@pytest.mark.unhooked
@every
def test_another_policy_is_explained(tmp_path, name):
    with pytest.raises(
        ValueError, match=f"{name}: expected counts to be one of warn, raise, ignore"
    ):
        _read(name, tmp_path, counts="no")


@every
def test_other_counts_warn_raise_or_are_ignored(tmp_path, name):
    base = READERS[name][0](tmp_path)
    with pytest.warns(
        UserWarning, match=rf"{name}: expected the official number of .*images of .*officially \d+"
    ) as caught:
        records = _read(name, base, counts="warn")
    assert len(caught) == 1
    with pytest.raises(ValueError, match=rf'{name}: expected the official .*counts="ignore"'):
        _read(name, base, counts="raise")
    assert _read(name, base) == records


@pytest.mark.unhooked  # the hook puts itself between caller and reader
@every
def test_the_warning_points_at_the_caller(tmp_path, name):
    base = READERS[name][0](tmp_path)
    with pytest.warns(UserWarning, match="official") as caught:
        _read(name, base, counts="warn")
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("read_msmt17", "train/0000/0000_001_12_0303morning_0016_0.jpg"),
        ("read_vehicleid", "image/0000004.jpg"),
        ("read_inshop", "Img/img/MEN/Denim/id_00000080/01_4_full.jpg"),
        ("read_hands11k", "Hands/Hand_0000003.jpg"),
        ("read_online_products", "bicycle_final/11_1.JPG"),
        ("read_cuhk_pedes", "imgs/Market/3.jpg"),
    ],
)
def test_a_listed_image_that_is_missing_is_named(tmp_path, name, image):
    base = READERS[name][0](tmp_path)
    (base / image).unlink()
    with pytest.raises(
        ValueError,
        match=rf"{name}: expected an image for each of the \d+ rows of .*, got 1 missing: .*{image}",
    ):
        _read(name, base)

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data import (
    ImageRecord,
    SplitManifest,
    apply_split,
    read_split,
    split_first_identities,
    split_query_gallery,
    write_split,
)


def _records(folder="here", count=6):
    return [
        ImageRecord(
            f"{folder}/in{number % 2}/{number}.jpg",
            number // 2,
            camera=number % 2,
            caption=str(number),
        )
        for number in range(count)
    ]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "split.json"


def test_a_manifest_is_a_json_file(file):
    manifest = split_query_gallery(_records(), num_splits=2, seed=3, data="photos \u00e9")
    write_split(manifest, file)
    assert read_split(file) == manifest

    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["data"] == "photos \u00e9"
    assert content["seed"] == 3
    assert content["splits"]["gallery0"] == list(manifest.splits["gallery0"])


@given(
    data=st.text(st.characters(exclude_categories=["Cs"])),
    seed=st.none() | st.integers(0, 2**63),
    splits=st.dictionaries(
        st.sampled_from("abc"), st.lists(st.sampled_from(["x/1.jpg", "\u00e9.png"])).map(tuple)
    ),
    identities=st.dictionaries(st.just("x/1.jpg"), st.integers(0, 9) | st.just("rex")),
)
def test_any_manifest_is_read_back(tmp_path_factory, data, seed, splits, identities):
    manifest = SplitManifest(data, "by hand", seed, splits, "", identities)
    file = tmp_path_factory.getbasetemp() / "any.json"

    write_split(manifest, file)

    assert read_split(file) == manifest


def test_the_repr_names_parts_and_their_sizes():
    manifest = SplitManifest("photos", "by hand", 3, {"train": ("a", "b"), "test": ("c",)}, "")

    assert repr(manifest) == (
        "SplitManifest(data='photos', rule='by hand', seed=3, splits={'train': 2, 'test': 1})"
    )


def test_the_repr_of_many_parts_is_short():
    manifest = split_query_gallery(_records(), num_splits=10)

    assert "'gallery2': 3, ... 14 more}" in repr(manifest)


def test_applying_sets_the_split_and_nothing_else():
    records = _records()
    applied = apply_split(records, split_first_identities(records))

    expected = []
    for number in (0, 2, 1, 3, 4, 5):  # by part, then by path
        split = "train" if number < 4 else "test"
        expected.append(dataclasses.replace(records[number], split=split))
    assert applied == expected


@pytest.mark.parametrize("moved", ["elsewhere/a/b", "set.zip::in/there", "/abs"])
def test_data_may_move_to_another_folder_or_an_archive(moved):
    manifest = split_first_identities(_records())
    applied = apply_split(_records(moved), manifest)

    paths = sorted(record.path for record in applied)
    assert paths == sorted(record.path for record in _records(moved))


def test_all_records_of_an_image_are_applied():
    records = [
        ImageRecord("a/1.jpg", 1, caption="x"),
        ImageRecord("a/1.jpg", 1, caption="y"),
        ImageRecord("a/2.jpg", 2),
    ]
    manifest = split_first_identities(records)
    assert manifest.splits == {"train": ("1.jpg",), "test": ("2.jpg",)}

    applied = apply_split(records, manifest)
    captions = [(record.caption, record.split) for record in applied]
    assert captions == [("x", "train"), ("y", "train"), (None, "test")]


def test_further_records_need_the_root():
    manifest = split_first_identities(_records())
    further = [*_records("top/here"), ImageRecord("top/here/1.jpg", 99)]
    assert len(apply_split(further, manifest, root="top/here")) == 6

    elsewhere = [*_records("top/here"), ImageRecord("top/other/1.jpg", 99)]
    text = (
        r"apply_split: 6 of 6 images of the split of 'unnamed' are not among the records, such as "
        r"in0/0\.jpg \(a record's image: here/in0/0\.jpg\)\. .*root="
    )
    with pytest.raises(ValueError, match=text):
        apply_split(elsewhere, manifest)


def test_images_outside_the_root_are_named():
    manifest = split_first_identities(_records())
    elsewhere = [*_records("top/here"), ImageRecord("top/other/1.jpg", 99)]

    with pytest.raises(ValueError, match=r"every image below top/here, got top/other/1\.jpg"):
        apply_split(elsewhere, manifest, root="top/here")


def test_a_root_above_the_images_is_part_of_the_names():
    manifest = split_first_identities(_records("top/here"), root="top")
    assert manifest.splits["test"] == ("here/in0/4.jpg", "here/in1/5.jpg")

    further = [*_records("top/here"), ImageRecord("top/x.jpg", 9)]
    assert len(apply_split(further, manifest)) == 6


def test_changed_identities_are_noticed():
    records = _records()
    manifest = split_first_identities(records)
    changed = [dataclasses.replace(records[0], identity=1), *records[1:]]

    with pytest.raises(ValueError, match="images of 'unnamed' have other identities than when"):
        apply_split(changed, manifest)


def test_new_images_are_ignored():
    records = _records()
    manifest = split_first_identities(records)

    assert len(apply_split([*records, ImageRecord("here/in0/new.jpg", 1)], manifest)) == 6


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": "other"}, "version 1, in .*, got format='other', version=1"),
        ({"version": 2}, "got format='clipreid_kit.split', version=2"),
        ({"splits": {"train": "a.jpg"}}, "a manifest of format"),
        ({"splits": {"train": [1]}}, "a manifest of format"),
        ({"seed": "x"}, "a manifest of format"),
    ],
)
def test_a_manifest_of_another_structure_is_refused(file, change, problem):
    write_split(split_first_identities(_records()), file)
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))

    with pytest.raises(ValueError, match=f"read_split: expected .*{problem}"):
        read_split(file)


def test_another_json_file_is_refused(file):
    file.write_text("[]")

    with pytest.raises(ValueError, match=r"read_split: expected .*got something else"):
        read_split(file)


def test_a_file_that_is_no_json_is_refused(file):
    file.write_text("[")

    with pytest.raises(ValueError, match=r"split\.json is not readable as JSON \(Expecting value"):
        read_split(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"read_split: there is no file .*none\.json"):
        read_split(tmp_path / "none.json")


def test_a_missing_folder_is_named(tmp_path):
    manifest = split_first_identities(_records())

    with pytest.raises(ValueError, match=r"write_split: cannot write .*none/a\.json"):
        write_split(manifest, tmp_path / "none" / "a.json")

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
        ImageRecord(f"{folder}/in{n % 2}/{n}.jpg", n // 2, camera=n % 2, caption=str(n))
        for n in range(count)
    ]


def test_a_manifest_is_a_file(tmp_path):
    manifest = split_query_gallery(_records(), num_splits=2, seed=3, data="photos \u00e9")
    write_split(manifest, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == manifest
    content = json.loads((tmp_path / "split.json").read_text(encoding="utf-8"))
    assert (content["data"], content["seed"]) == ("photos \u00e9", 3)
    assert content["splits"]["gallery0"] == list(manifest.splits["gallery0"])


def test_applying_keeps_all_but_the_split():
    records = _records()
    applied = apply_split(records, split_first_identities(records))
    expected = [
        dataclasses.replace(r, split="train" if n < 4 else "test") for n, r in enumerate(records)
    ]
    assert applied == [expected[n] for n in (0, 2, 1, 3, 4, 5)]  # by part, then by path


@pytest.mark.parametrize("moved", ["elsewhere/a/b", "set.zip::in/there", "/abs"])
def test_data_may_move_into_another_folder_or_an_archive(moved):
    manifest = split_first_identities(_records())
    applied = apply_split(_records(moved), manifest)
    assert sorted(r.path for r in applied) == sorted(r.path for r in _records(moved))


def test_an_image_that_several_records_show_comes_with_all_of_them():
    records = [
        ImageRecord("a/1.jpg", 1, caption="x"),
        ImageRecord("a/1.jpg", 1, caption="y"),
        ImageRecord("a/2.jpg", 2),
    ]
    manifest = split_first_identities(records)
    assert manifest.splits == {"train": ("1.jpg",), "test": ("2.jpg",)}
    assert [(r.caption, r.split) for r in apply_split(records, manifest)] == [
        ("x", "train"), ("y", "train"), (None, "test"),
    ]  # fmt: skip


def test_others_among_the_records_need_the_root():
    manifest = split_first_identities(_records())
    more = [*_records("top/here"), ImageRecord("top/other/1.jpg", 99)]
    problem = r"got 6 of 6 not there, such as in0/0\.jpg \(one that is: here/in0/0\.jpg\)\. .*root="
    with pytest.raises(
        ValueError,
        match=f"expected the images of the split of 'unnamed' among the records, {problem}",
    ):
        apply_split(more, manifest)
    assert len(apply_split(more[:-1], manifest, root="top/here")) == 6
    with pytest.raises(ValueError, match=r"every image below top/here, got top/other/1\.jpg"):
        apply_split(more, manifest, root="top/here")


def test_a_root_above_the_images_is_part_of_the_names():
    manifest = split_first_identities(_records("top/here"), root="top")
    assert manifest.splits["test"] == ("here/in0/4.jpg", "here/in1/5.jpg")
    assert len(apply_split([*_records("top/here"), ImageRecord("top/x.jpg", 9)], manifest)) == 6


def test_other_identities_for_the_same_images_are_noticed():
    records = _records()
    manifest = split_first_identities(records)
    changed = [dataclasses.replace(records[0], identity=1), *records[1:]]
    with pytest.raises(
        ValueError, match="the identities that 'unnamed' had, got others for the same images"
    ):
        apply_split(changed, manifest)
    assert len(apply_split([*records, ImageRecord("here/in0/new.jpg", 1)], manifest)) == 6


def test_one_image_of_two_identities_and_mixed_kinds_are_refused():
    with pytest.raises(ValueError, match=r"one identity for each image, got 1 and 2 for a/1\.jpg"):
        split_first_identities(
            [ImageRecord("a/1.jpg", 1), ImageRecord("a/1.jpg", 2), ImageRecord("a/2.jpg", 2)]
        )
    with pytest.raises(
        ValueError, match="all identities as integers or all as strings, got int and str"
    ):
        split_first_identities([ImageRecord("a/1.jpg", 1), ImageRecord("a/2.jpg", "1")])
    with pytest.raises(
        ValueError, match="split_first_identities: expected records to split, got none"
    ):
        split_first_identities([])


@given(
    data=st.text(st.characters(exclude_categories=["Cs"])),
    seed=st.none() | st.integers(0, 2**63),
    splits=st.dictionaries(
        st.sampled_from("abc"), st.lists(st.sampled_from(["x/1.jpg", "\u00e9.png"])).map(tuple)
    ),
    identities=st.dictionaries(st.just("x/1.jpg"), st.integers(0, 9) | st.just("rex")),
)
def test_what_is_written_is_read_back(tmp_path_factory, data, seed, splits, identities):
    manifest = SplitManifest(data, "by hand", seed, splits, "", identities)
    file = tmp_path_factory.getbasetemp() / "any.json"
    write_split(manifest, file)
    assert read_split(file) == manifest


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"format": "other"},
            "a manifest of format 'clipreid_kit.split', version 1, in .*, got format='other', version=1",
        ),
        ({"version": 2}, "got format='clipreid_kit.split', version=2"),
        ({"splits": {"train": "a.jpg"}}, "a manifest of format"),
        ({"splits": {"train": [1]}}, "a manifest of format"),
        ({"seed": "x"}, "a manifest of format"),
    ],
)
def test_another_file_is_explained(tmp_path, change, problem):
    file = tmp_path / "split.json"
    write_split(split_first_identities(_records()), file)
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=f"read_split: expected .*{problem}"):
        read_split(file)


def test_no_file_no_json_and_no_place_to_write(tmp_path):
    with pytest.raises(
        ValueError, match=r"read_split: expected a split manifest, got no file at .*none\.json"
    ):
        read_split(tmp_path / "none.json")
    (tmp_path / "a.json").write_text("[")
    with pytest.raises(ValueError, match=r"a\.json as JSON, got JSONDecodeError"):
        read_split(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(ValueError, match="got something else"):
        read_split(tmp_path / "a.json")
    with pytest.raises(ValueError, match="write_split: expected to write"):
        write_split(split_first_identities(_records()), tmp_path / "none" / "a.json")

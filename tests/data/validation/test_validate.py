import dataclasses
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from clipreid_kit.data import ImageRecord, validate_records


def _image(folder, name, colour):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(file)
    return str(file)


@pytest.fixture
def sound(tmp_path):
    rows = [("a", 1, "train"), ("a", 2, "train"), ("b", 1, "train"), ("b", 2, "train")]
    rows += [
        ("c", 1, "query"),
        ("c", 2, "gallery"),
        ("d", 2, "query"),
        ("d", 1, "gallery"),
        ("e", 1, "gallery"),
    ]
    return [
        ImageRecord(
            _image(tmp_path, f"{n}.png", (n * 20, 5, 9)), identity, camera=camera, split=split
        )
        for n, (identity, camera, split) in enumerate(rows)
    ]


def _kinds(report):
    return {finding.kind: (finding.severity, finding.count) for finding in report.findings}


def test_sound_records_pass_and_are_counted(sound):
    report = validate_records(sound)
    assert list(report.records) == sound
    assert report.counts == {"records": 9, "skipped": 0}
    assert dataclasses.astuple(report.balance["gallery"]) == (3, 3, 2, 1, 1, 1)
    assert dataclasses.astuple(report.balance["train"]) == (4, 2, 2, 2, 2.0, 2)
    assert str(report).splitlines() == [
        "9 records",
        "nothing found",
        "split    images  identities  cameras  images per identity (fewest, median, most)",
        "train    4       2           2        2, 2, 2",
        "query    2       2           2        1, 1, 1",
        "gallery  3       3           2        1, 1, 1",
    ]
    assert json.loads(json.dumps(report.to_dict()))["balance"]["query"]["images"] == 2


def test_records_without_splits_are_read_only(sound):
    records = [dataclasses.replace(record, split=None, camera=None) for record in sound]
    report = validate_records(records)
    assert report.counts == {"records": 9, "skipped": 0, "single_image": 1}
    assert report.findings[0].text == "1 identities with one image"
    assert dataclasses.astuple(report.balance["-"]) == (9, 5, 0, 1, 2, 2)


def _cut(records):
    with Path(records[0].path).open("rb+") as file:
        file.truncate(40)
    return records


def _more(identity, camera, split, colour="red"):
    return lambda records: [
        *records,
        ImageRecord(
            _image(Path(records[0].path).parent, "x.png", colour),
            identity,
            camera=camera,
            split=split,
        ),
    ]


CASES = {
    "unreadable": (_cut, "error", {0}),
    "overlap": (_more("c", None, "train"), "error", {9}),
    "leak": (_more("z", None, "train", (80, 5, 9)), "error", {9}),
    "no_match": (_more("z", None, "query"), "error", {9}),
    "conflict": (_more("b", None, "train", (0, 5, 9)), "error", {0, 9}),
    "same_camera": (_more("e", 1, "query"), "note", set()),
    "single_image": (_more("z", None, "train"), "note", set()),
    "duplicate": (_more("a", None, "train", (0, 5, 9)), "note", set()),
}


@pytest.mark.parametrize("kind", CASES)
def test_one_problem_is_found_and_skipped(sound, kind):
    change, severity, skipped = CASES[kind]
    records = change(sound)
    report = validate_records(records, on_error="report")
    assert _kinds(report)[kind] == (severity, 1)
    assert list(report.records) == records
    left = validate_records(records, on_error="skip")
    assert list(left.records) == [record for n, record in enumerate(records) if n not in skipped]
    assert left.counts["skipped"] == len(skipped)
    assert left.counts[kind] == 1
    assert kind in {finding["kind"] for finding in left.to_dict()["findings"]}
    if severity == "error":
        (finding,) = (finding for finding in report.findings if finding.kind == kind)
        with pytest.raises(
            ValueError,
            match=r'(?s)validate_records: expected sound records, got these:\n.*on_error="skip"',
        ) as caught:
            validate_records(records)
        assert finding.text in str(caught.value)
        assert finding.examples[0] in str(caught.value)
        assert not {
            f.kind
            for f in validate_records(left.records, on_error="report").findings
            if f.severity == "error"
        }
    else:
        assert list(validate_records(records).records) == records


def test_bytes_in_training_and_test_leave_training(sound, tmp_path):
    records = [*sound, ImageRecord(_image(tmp_path, "x.png", (80, 5, 9)), "c", split="train")]
    report = validate_records(records, on_error="report")
    assert _kinds(report) == {
        "overlap": ("error", 1),
        "leak": ("error", 1),
        "single_image": ("note", 1),
    }
    assert validate_records(records, on_error="skip").counts == {
        "records": 10,
        "skipped": 1,
        "overlap": 1,
    }


def test_every_query_of_one_camera_is_an_error(sound):
    records = [dataclasses.replace(record, camera=1) for record in sound]
    with pytest.raises(
        ValueError, match="error: 2 queries whose matches are all from their own camera"
    ):
        validate_records(records)
    assert len(validate_records(records, on_error="skip").records) == 9
    unknown = [dataclasses.replace(record, camera=None) for record in sound]
    assert validate_records(unknown).findings == ()


def test_an_image_that_is_listed_twice_is_no_duplicate(sound):
    assert validate_records([*sound, dataclasses.replace(sound[0], caption="x")]).findings == ()
    twice = [*sound, dataclasses.replace(sound[0], identity="b")]
    assert _kinds(validate_records(twice, on_error="report")) == {}


def test_files_of_equal_size_are_compared_by_content(tmp_path):
    files = [tmp_path / f"{n}.bmp" for n in range(3)]
    for file, colour in zip(files, ("red", "blue", "red"), strict=True):
        Image.new("RGB", (4, 4), colour).save(file)
    records = [ImageRecord(str(file), "a", split="train") for file in files]
    (finding,) = validate_records(records).findings
    assert (finding.kind, finding.examples) == ("duplicate", (f"{files[0]} = {files[2]}",))
    assert validate_records(records, duplicates=False).findings == ()


def test_archives_are_looked_into(tmp_path):
    _image(tmp_path, "a.png", "red")
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as pack:
        for name in ("1.png", "2.png"):
            pack.write(tmp_path / "a.png", name)
        pack.writestr("3.png", "no image")
    records = [ImageRecord(f"{archive}::{n}.png", "a", split="train") for n in range(1, 5)]
    report = validate_records(records, on_error="skip")
    assert _kinds(report) == {"unreadable": ("error", 2), "duplicate": ("note", 1)}
    assert "3.png (8 bytes of something else" in report.findings[0].examples[0]
    assert len(report.records) == 2


def test_images_need_not_be_opened():
    records = [
        ImageRecord("none/a.jpg", 1, split="train"),
        ImageRecord("none/b.jpg", 1, split="train"),
    ]
    assert validate_records(records, images=False).findings == ()
    assert validate_records(records, on_error="report").counts == {
        "records": 2,
        "skipped": 0,
        "unreadable": 2,
    }


def test_captions_have_a_length():
    texts = ["ab", "abc", "a" * 1000, "a" * 1001, None]
    records = [ImageRecord(f"{n}.jpg", n, caption=text) for n, text in enumerate(texts)]
    report = validate_records(records, images=False, caption_length=(3, 1000), on_error="skip")
    assert [r.path for r in report.records] == ["1.jpg", "2.jpg"]
    assert report.counts == {"records": 5, "skipped": 3, "caption": 3, "single_image": 2}


def test_many_findings_are_cut_short_and_errors_come_first():
    records = [ImageRecord(f"{n}.jpg", n, split="query") for n in range(5)]
    records += [ImageRecord("t.jpg", 9, split="train")]
    report = validate_records(records, images=False, on_error="report")
    assert str(report).splitlines()[:3] == [
        "6 records",
        "error: 5 queries whose identity is not in 'gallery': 0.jpg, 1.jpg, 2.jpg, ...",
        "note: 1 training identities with one image: 9",
    ]


def test_other_names_of_splits():
    names = {"train": "t", "query": "q", "gallery": "g"}
    records = [
        ImageRecord("1.jpg", 1, split="t"),
        ImageRecord("2.jpg", 1, split="q"),
        ImageRecord("3.jpg", 1, split="g"),
    ]
    assert "overlap" in _kinds(validate_records(records, **names, images=False, on_error="report"))
    assert validate_records(records, **{**names, "train": None}, images=False).findings == ()


def _rows(*rows):
    return [
        ImageRecord(f"{n}.jpg", i, camera=camera, split=split)
        for n, (i, camera, split) in enumerate(rows)
    ]


def test_a_test_part_that_is_not_divided_yet_is_apart_from_training():
    records = _rows(
        ("a", 1, "train"), ("a", 2, "train"), ("a", 1, "test"), ("b", 1, "test"), ("a", 1, "val")
    )
    report = validate_records(records, images=False, on_error="skip")
    assert report.counts == {"records": 5, "skipped": 2, "overlap": 1}
    assert [record.split for record in report.records] == ["test", "test", "val"]
    kept = validate_records(records, images=False, train="test", on_error="report")
    assert "overlap" not in _kinds(kept)


def test_every_pair_of_queries_and_gallery_is_looked_at():
    sound = [
        ("a", 1, "train"),
        ("a", 2, "train"),
        ("c", 1, "query0"),
        ("c", 2, "gallery0"),
        ("v", 1, "val_query"),
    ]
    sound += [
        ("v", 2, "val_gallery"),
        ("d", 1, "query1"),
        ("d", 2, "gallery1"),
        ("c", 1, "query_log"),
    ]
    assert validate_records(_rows(*sound), images=False).findings == ()
    for rows, kind, skipped in (
        ([("x", 1, "query1")], "no_match", 1),
        ([("d", 2, "query0")], "no_match", 1),  # in another gallery than its own
        ([("v", 1, "train")], "overlap", 1),
        ([("c", 1, "train")], "overlap", 1),
        ([("x", 1, "query1"), ("x", 1, "gallery1")], "same_camera", 0),
    ):
        records = _rows(*sound, *rows)
        report = validate_records(records, images=False, on_error="skip")
        assert (report.counts[kind], report.counts["skipped"]) == (1, skipped), rows
        assert all(
            f.severity == "note" for f in validate_records(report.records, images=False).findings
        )
    both = _rows(*sound, ("x", 1, "query0"), ("y", 1, "query1"), ("z", 1, "val_query"))
    (finding,) = validate_records(both, images=False, on_error="report").findings
    assert (
        finding.text == "3 queries whose identity is not in 'gallery0', 'gallery1', 'val_gallery'"
    )
    alone = _rows(
        *sound, ("w", 1, "query2"), ("w", 1, "gallery2")
    )  # nothing of this pair can be scored
    assert _kinds(validate_records(alone, images=False, on_error="report")) == {
        "same_camera": ("error", 1)
    }


def test_counts_go_into_a_metrics_file(sound, tmp_path):
    (tmp_path / "0.png").write_bytes(b"no image")
    report = validate_records(sound, on_error="skip")
    file = tmp_path / "metrics.jsonl"
    file.write_text(json.dumps({"mean_ap": 0.5, "data": report.counts}) + "\n")
    assert json.loads(file.read_text())["data"] == {
        "records": 9,
        "skipped": 1,
        "unreadable": 1,
        "single_image": 1,
    }
    assert all(type(value) is int for value in report.counts.values())


def test_kinds_of_identities_are_not_mixed():
    with pytest.raises(
        ValueError,
        match=r"validate_records: expected all identities .*got int \(1\) and str \('1'\)",
    ):
        validate_records([ImageRecord("a.jpg", 1), ImageRecord("b.jpg", "1")])


@pytest.mark.unhooked
def test_another_policy_is_explained():
    with pytest.raises(ValueError, match="on_error to be one of raise, skip, report"):
        validate_records([], on_error="ignore")


def test_no_records():
    report = validate_records([])
    assert str(report).splitlines()[:2] == ["0 records", "nothing found"]
    assert report.balance == {}

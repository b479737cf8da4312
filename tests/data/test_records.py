import dataclasses

import pytest

from clipreid_kit.data import (
    ImageRecord,
    ReidDataset,
    check_files,
    check_shared_images,
    check_splits,
    eval_transform,
    evaluation_ids,
    read_folder,
    read_table,
    split_identities,
    validate_records,
    write_csv,
    write_table,
)


def test_a_record_needs_a_path_and_an_identity_only():
    record = ImageRecord("a.jpg", "rex")

    optional = (record.camera, record.view, record.caption, record.split)
    assert optional == (None, None, None, None)
    assert record.extra == {}


def test_records_with_equal_fields_are_equal():
    assert ImageRecord("a.jpg", 0, camera=0) == ImageRecord("a.jpg", 0, camera=0)
    assert ImageRecord("a.jpg", 0, camera=0) != ImageRecord("a.jpg", 0, camera="0")


def test_a_record_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ImageRecord("a.jpg", 1).identity = 2


@pytest.mark.unhooked
@pytest.mark.parametrize("identity", [None, 1.0, True, "", float("nan"), ("rex",)])
def test_an_identity_is_an_integer_or_a_name(identity):
    message = r"ImageRecord: expected identity .* got .* for a\.jpg\. Map"
    with pytest.raises(ValueError, match=message):
        ImageRecord("a.jpg", identity)


@pytest.mark.unhooked
@pytest.mark.parametrize("camera", [1.0, True, "", float("nan")])
def test_a_camera_is_an_integer_or_a_name(camera):
    message = r"ImageRecord: expected camera .* got .* for a\.jpg\."
    with pytest.raises(ValueError, match=message):
        ImageRecord("a.jpg", 1, camera=camera)


@pytest.mark.unhooked
@pytest.mark.parametrize("modality", [0, True, "", ("infrared",)])
def test_a_modality_is_a_name(modality):
    message = r"ImageRecord: expected modality .* got .* for a\.jpg\. Use names"
    with pytest.raises(ValueError, match=message):
        ImageRecord("a.jpg", 1, modality=modality)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("column", "value"), [("tracklet", 1.0), ("tracklet", ""), ("frame", "1"), ("frame", True)]
)
def test_tracklet_and_frame_are_checked(column, value):
    with pytest.raises(ValueError, match=rf"ImageRecord: expected {column} as .* for a\.jpg\."):
        ImageRecord("a.jpg", 1, **{column: value})


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_tracklets_and_frames_survive_a_table(tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    (tmp_path / "a.jpg").touch()
    of_tracklet = ImageRecord(f"{tmp_path}/a.jpg", 1, camera=2, tracklet=7, frame=3)
    still = ImageRecord(f"{tmp_path}/a.jpg", 1, camera=2)
    table = tmp_path / f"records.{suffix}"

    write_table([of_tracklet, still], table)
    assert read_table(table) == [of_tracklet, still]


def test_frames_are_whole_numbers_and_may_have_zeros_in_front(tmp_path):
    table = tmp_path / "records.csv"
    table.write_text("path,identity,tracklet,frame\na.jpg,1,T1,007\n")
    assert [(r.tracklet, r.frame) for r in read_table(table)] == [("T1", 7)]

    table.write_text("path,identity,tracklet,frame\na.jpg,1,T1,1.5\n")
    with pytest.raises(ValueError, match=r"expected frame as a whole number, got '1\.5' in row 2"):
        read_table(table)


def test_a_pattern_finds_tracklets_and_frames(tmp_path):
    (tmp_path / "0001C1T0002F003.jpg").touch()
    [record] = read_folder(tmp_path, pattern="{identity}C{camera}T{tracklet}F{frame}.jpg")
    assert (record.identity, record.camera, record.tracklet, record.frame) == ("0001", 1, "0002", 3)


ROWS = [("a.jpg", 1), ("b.jpg", 2)]


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("owner", "call"),
    [
        ("ReidDataset", lambda rows: ReidDataset(rows, eval_transform(8))),
        ("check_files", check_files),
        ("check_splits", check_splits),
        ("validate_records", validate_records),
        ("check_shared_images", lambda rows: check_shared_images(rows, [])),
        ("evaluation_ids", lambda rows: evaluation_ids(rows, rows)),
        ("split_identities", lambda rows: split_identities(rows, {"a": 1.0})),
        ("write_csv", lambda rows: write_csv(rows, "x.csv")),
    ],
)
@pytest.mark.parametrize("rows", [ROWS, ["a.jpg"], [{"path": "a.jpg", "identity": 1}]])
def test_what_is_no_record_is_explained(owner, call, rows):
    kind = type(rows[0]).__name__
    message = rf"^{owner}: expected records as ImageRecord, got {kind} .* as number 0\. Build them"
    with pytest.raises(ValueError, match=message):
        call(rows)


@pytest.mark.unhooked
def test_a_wrong_record_among_others_is_numbered():
    with pytest.raises(ValueError, match="got NoneType None as number 1"):
        check_files(iter([ImageRecord("a.jpg", 1), None]))


@pytest.mark.parametrize("names", [{"identity": "a\0"}, {"identity": 1, "camera": "a\0b"}])
def test_a_null_character_in_a_name_is_an_error(names):
    with pytest.raises(
        ValueError, match=r"ImageRecord: 'a\\x00b?' of a.jpg holds a null character"
    ):
        ImageRecord("a.jpg", **names)

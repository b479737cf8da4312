import dataclasses
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipreid_kit.data import ImageRecord, validate_records


def make_image(folder, name, colour):
    file = folder / name
    Image.new("RGB", (4, 4), colour).save(file)
    return str(file)


SOUND = [
    ("a", 1, "train"),
    ("a", 2, "train"),
    ("b", 1, "train"),
    ("b", 2, "train"),
    ("c", 1, "query"),
    ("c", 2, "gallery"),
    ("d", 2, "query"),
    ("d", 1, "gallery"),
    ("e", 1, "gallery"),
]


@pytest.fixture
def sound(tmp_path):
    records = []
    for number, (identity, camera, split) in enumerate(SOUND):
        path = make_image(tmp_path, f"{number}.png", (number * 20, 5, 9))
        records.append(ImageRecord(path, identity, camera=camera, split=split))
    return records


def rows(*fields):
    """Records of (identity, camera, split), without image files."""
    return [
        ImageRecord(f"{number}.jpg", identity, camera=camera, split=split)
        for number, (identity, camera, split) in enumerate(fields)
    ]


def kinds(report):
    return {finding.kind: (finding.severity, finding.count) for finding in report.findings}


def errors(report):
    return {finding.kind for finding in report.findings if finding.severity == "error"}


def test_sound_records_have_no_findings(sound):
    report = validate_records(sound)

    assert list(report.records) == sound
    assert report.findings == ()
    assert report.counts == {"records": 9, "skipped": 0}


def test_records_without_splits_are_only_decoded(sound):
    records = [dataclasses.replace(record, split=None, camera=None) for record in sound]
    report = validate_records(records)

    assert report.counts == {"records": 9, "skipped": 0, "single_image": 1}
    assert report.findings[0].text == "1 identities with one image"


def cut_the_first_file(records):
    with Path(records[0].path).open("rb+") as file:
        file.truncate(40)
    return records


def add(identity, camera, split, colour="red"):
    """Return a change of records: one more image."""

    def change(records):
        path = make_image(Path(records[0].path).parent, "x.png", colour)
        return [*records, ImageRecord(path, identity, camera=camera, split=split)]

    return change


# The change of sound records, the severity of the finding, and the rows that "skip" leaves out.
CASES = {
    "unreadable": (cut_the_first_file, "error", {0}),
    "overlap": (add("c", None, "train"), "error", {9}),
    "leak": (add("z", None, "train", (80, 5, 9)), "error", {9}),
    "no_match": (add("z", None, "query"), "error", {9}),
    "conflict": (add("b", None, "train", (0, 5, 9)), "error", {0, 9}),
    "same_camera": (add("e", 1, "query"), "note", set()),
    "single_image": (add("z", None, "train"), "note", set()),
    "duplicate": (add("a", None, "train", (0, 5, 9)), "note", set()),
}
ERRORS = [kind for kind, (_, severity, _) in CASES.items() if severity == "error"]
NOTES = [kind for kind, (_, severity, _) in CASES.items() if severity == "note"]


@pytest.mark.parametrize("kind", CASES)
def test_a_problem_is_reported(sound, kind):
    change, severity, _ = CASES[kind]
    records = change(sound)
    report = validate_records(records, on_error="report")

    assert kinds(report)[kind] == (severity, 1)
    assert list(report.records) == records


@pytest.mark.parametrize("kind", CASES)
def test_the_records_of_an_error_are_skipped(sound, kind):
    change, _, skipped = CASES[kind]
    records = change(sound)
    report = validate_records(records, on_error="skip")

    kept = [record for row, record in enumerate(records) if row not in skipped]
    assert list(report.records) == kept
    assert report.counts["skipped"] == len(skipped)
    assert report.counts[kind] == 1


@pytest.mark.parametrize("kind", ERRORS)
def test_the_rest_has_no_errors(sound, kind):
    change, _, _ = CASES[kind]
    report = validate_records(change(sound), on_error="skip")

    assert not errors(validate_records(report.records, on_error="report"))


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_raises_with_the_report(sound, kind):
    change, _, _ = CASES[kind]
    records = change(sound)
    report = validate_records(records, on_error="report")
    (finding,) = (finding for finding in report.findings if finding.kind == kind)

    message = r'(?s)validate_records: the data has errors\.\n.*on_error="skip"'
    with pytest.raises(ValueError, match=message) as caught:
        validate_records(records)
    assert finding.text in str(caught.value)
    assert finding.examples[0] in str(caught.value)


@pytest.mark.parametrize("kind", NOTES)
def test_a_note_does_not_raise(sound, kind):
    change, _, _ = CASES[kind]
    records = change(sound)

    assert list(validate_records(records).records) == records


def test_a_leak_of_an_overlapping_identity_is_skipped_once(sound, tmp_path):
    path = make_image(tmp_path, "x.png", (80, 5, 9))
    records = [*sound, ImageRecord(path, "c", split="train")]

    assert kinds(validate_records(records, on_error="report")) == {
        "overlap": ("error", 1),
        "leak": ("error", 1),
        "single_image": ("note", 1),
    }
    assert validate_records(records, on_error="skip").counts == {
        "records": 10,
        "skipped": 1,
        "overlap": 1,
    }


def test_queries_of_one_camera_only_are_an_error_that_skips_nothing(sound):
    records = [dataclasses.replace(record, camera=1) for record in sound]

    message = "error: 2 queries whose matches are all from their own camera"
    with pytest.raises(ValueError, match=message):
        validate_records(records)
    assert len(validate_records(records, on_error="skip").records) == 9


def test_unknown_cameras_are_no_problem(sound):
    unknown = [dataclasses.replace(record, camera=None) for record in sound]
    assert validate_records(unknown).findings == ()


def test_an_image_that_is_listed_twice_is_no_duplicate(sound):
    twice = [*sound, dataclasses.replace(sound[0], caption="x")]
    assert validate_records(twice).findings == ()


def test_an_image_that_is_listed_under_two_identities_is_a_conflict(sound):
    records = [*sound, dataclasses.replace(sound[0], identity="b")]

    report = validate_records(records, on_error="report")
    assert kinds(report) == {"conflict": ("error", 1)}
    assert list(validate_records(records, on_error="skip").records) == sound[1:]


def test_an_image_that_is_listed_in_training_and_test_is_a_leak(sound):
    records = [*sound, dataclasses.replace(sound[4], identity="z", split="train")]

    report = validate_records(records, on_error="report")
    assert kinds(report)["leak"] == ("error", 1)
    assert list(validate_records(records, on_error="skip").records) == sound


def test_files_of_equal_size_are_compared_by_content(tmp_path):
    files = [str(tmp_path / f"{number}.bmp") for number in range(3)]
    for file, colour in zip(files, ("red", "blue", "red"), strict=True):
        Image.new("RGB", (4, 4), colour).save(file)
    records = [ImageRecord(file, "a", split="train") for file in files]

    (finding,) = validate_records(records).findings
    assert (finding.kind, finding.examples) == ("duplicate", (f"{files[0]} = {files[2]}",))
    assert validate_records(records, duplicates=False).findings == ()


def test_members_of_archives_are_checked(tmp_path):
    make_image(tmp_path, "a.png", "red")
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as pack:
        pack.write(tmp_path / "a.png", "1.png")
        pack.write(tmp_path / "a.png", "2.png")
        pack.writestr("3.png", "no image")
    records = [ImageRecord(f"{archive}::{n}.png", "a", split="train") for n in range(1, 5)]

    report = validate_records(records, on_error="skip")
    assert kinds(report) == {"unreadable": ("error", 2), "duplicate": ("note", 1)}
    assert report.findings[0].examples == (
        f"{archive}::3.png (its 8 bytes are no image (JPEG, PNG, WebP, BMP, TIFF or GIF), or the "
        "header is damaged)",
        f"{archive}::4.png (the archive has no such member)",
    )
    assert len(report.records) == 2


def test_images_false_opens_no_image():
    records = rows((1, None, "train"), (1, None, "train"))

    assert validate_records(records, images=False).findings == ()
    assert validate_records(records, on_error="report").counts["unreadable"] == 2


def test_captions_have_a_length():
    texts = ["ab", "abc", "a" * 1000, "a" * 1001, None]
    records = [ImageRecord(f"{n}.jpg", n, caption=text) for n, text in enumerate(texts)]
    report = validate_records(records, images=False, caption_length=(3, 1000), on_error="skip")

    assert [record.path for record in report.records] == ["1.jpg", "2.jpg"]
    assert report.counts == {"records": 5, "skipped": 3, "caption": 3, "single_image": 2}


def test_errors_come_first():
    records = rows(*((n, None, "query") for n in range(5)), (9, None, "train"))
    report = validate_records(records, images=False, on_error="report")

    assert [finding.severity for finding in report.findings] == ["error", "note"]
    assert report.findings[0].count == 5
    assert len(report.findings[0].examples) == 3


def test_splits_may_have_other_names():
    records = rows((1, None, "t"), (1, None, "q"), (1, None, "g"))
    names = {"query": "q", "gallery": "g", "images": False, "on_error": "report"}

    assert "overlap" in kinds(validate_records(records, train="t", **names))
    assert validate_records(records, train=None, **names).findings == ()


def test_a_test_split_is_compared_with_training():
    records = rows(
        ("a", 1, "train"), ("a", 2, "train"), ("a", 1, "test"), ("b", 1, "test"), ("a", 1, "val")
    )
    report = validate_records(records, images=False, on_error="skip")
    assert report.counts == {"records": 5, "skipped": 2, "overlap": 1}
    assert [record.split for record in report.records] == ["test", "test", "val"]

    trained_on_test = validate_records(records, images=False, train="test", on_error="report")
    assert "overlap" not in kinds(trained_on_test)


PAIRS = [
    ("a", 1, "train"),
    ("a", 2, "train"),
    ("c", 1, "query0"),
    ("c", 2, "gallery0"),
    ("v", 1, "val_query"),
    ("v", 2, "val_gallery"),
    ("d", 1, "query1"),
    ("d", 2, "gallery1"),
    ("c", 1, "query_log"),
]


def test_several_pairs_of_query_and_gallery_are_sound():
    assert validate_records(rows(*PAIRS), images=False).findings == ()


@pytest.mark.parametrize(
    ("added", "kind", "num_skipped"),
    [
        ([("x", 1, "query1")], "no_match", 1),
        ([("d", 2, "query0")], "no_match", 1),  # its match is in another gallery
        ([("v", 1, "train")], "overlap", 1),
        ([("c", 1, "train")], "overlap", 1),
        ([("x", 1, "query1"), ("x", 1, "gallery1")], "same_camera", 0),
    ],
)
def test_every_pair_is_checked(added, kind, num_skipped):
    report = validate_records(rows(*PAIRS, *added), images=False, on_error="skip")

    assert report.counts[kind] == 1
    assert report.counts["skipped"] == num_skipped
    assert not errors(validate_records(report.records, images=False))


def test_a_finding_names_the_galleries():
    added = [("x", 1, "query0"), ("y", 1, "query1"), ("z", 1, "val_query")]
    report = validate_records(rows(*PAIRS, *added), images=False, on_error="report")

    (finding,) = report.findings
    assert finding.text == (
        "3 queries whose identity is not in 'gallery0', 'gallery1', 'val_gallery'"
    )


def test_a_pair_without_any_valid_query_is_an_error():
    added = [("w", 1, "query2"), ("w", 1, "gallery2")]
    report = validate_records(rows(*PAIRS, *added), images=False, on_error="report")

    assert kinds(report) == {"same_camera": ("error", 1)}


def test_identities_of_two_types_are_an_error():
    message = r"validate_records: identities are of several types: int \(1\) and str \('1'\)"
    with pytest.raises(ValueError, match=message):
        validate_records([ImageRecord("a.jpg", 1), ImageRecord("b.jpg", "1")])


@pytest.mark.unhooked
def test_another_policy_is_an_error():
    with pytest.raises(ValueError, match="on_error to be one of raise, skip, report"):
        validate_records([], on_error="ignore")


def test_counts_are_plain_integers_for_a_metrics_file(sound, tmp_path):
    (tmp_path / "0.png").write_bytes(b"no image")
    counts = validate_records(sound, on_error="skip").counts

    assert json.loads(json.dumps(counts)) == {
        "records": 9,
        "skipped": 1,
        "unreadable": 1,
        "single_image": 1,
    }
    assert all(type(value) is int for value in counts.values())


def test_no_records_are_sound():
    report = validate_records([])

    assert report.findings == ()
    assert report.balance == {}


class TestQueriesInTheGallery:
    @pytest.fixture
    def images(self, tmp_path):
        first = make_image(tmp_path, "a.png", (9, 9, 9))
        copy = make_image(tmp_path, "copy.png", (9, 9, 9))
        other = make_image(tmp_path, "b.png", (99, 9, 9))
        return first, copy, other

    def pair(self, query, *gallery, cameras=(None, None)):
        return [
            ImageRecord(query, 1, camera=cameras[0], split="query"),
            *(ImageRecord(path, 1, camera=cameras[1], split="gallery") for path in gallery),
        ]

    @pytest.mark.parametrize("cameras", [(None, None), (1, 2)])
    def test_the_same_image_on_both_sides_is_an_error(self, images, cameras):
        records = self.pair(images[0], images[0], images[2], cameras=cameras)
        with pytest.raises(ValueError, match="1 images that are query and gallery, so that a quer"):
            validate_records(records)
        with pytest.raises(ValueError, match="images that are query and gallery"):
            validate_records(records, images=False, duplicates=False)

    def test_so_is_a_copy(self, images):
        with pytest.raises(ValueError, match=r"images that are query and gallery.*a\.png = .*copy"):
            validate_records(self.pair(images[0], images[1], images[2]))

    def test_where_the_camera_rule_leaves_it_out_it_is_none(self, images):
        records = self.pair(images[0], images[0], cameras=(1, 1))
        records.append(ImageRecord(images[2], 1, camera=2, split="gallery"))
        assert "shared" not in validate_records(records).counts

    def test_it_is_skipped_in_the_gallery(self, images):
        report = validate_records(self.pair(images[0], images[0], images[2]), on_error="skip")
        assert [(record.path, record.split) for record in report.records] == [
            (images[0], "query"),
            (images[2], "gallery"),
        ]


class TestNothingToPair:
    def records(self, captions):
        return [
            ImageRecord(f"{number}.jpg", number, caption=caption, split="train")
            for number, caption in enumerate(captions)
        ]

    def test_one_image_of_every_training_identity_is_an_error(self):
        with pytest.raises(
            ValueError, match="identities with one image, which are all: there is no"
        ):
            validate_records(self.records([None, None]), images=False, duplicates=False)

    def test_captions_are_pairs(self):
        records = self.records(["a dog", "a cat"])
        report = validate_records(records, images=False, duplicates=False)
        assert [finding.severity for finding in report.findings] == ["note"]


def test_names_that_look_alike_are_noted(sound):
    other = dataclasses.replace(sound[0], identity="A", camera="01")
    records = [*sound, other]
    report = validate_records(records, images=False, duplicates=False, on_error="report")
    texts = {finding.kind: finding.examples for finding in report.findings}
    assert texts["similar_identity"] == ("'A' and 'a'",)
    assert texts["similar_camera"] == ("'01' and 1",)


def photograph(seed):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 4, 3), dtype=np.uint8))
    return coarse.resize((64, 128), Image.Resampling.BICUBIC)


def formats(folder, *fields):
    """Records of one image in several files: (name, identity, camera, split)."""
    records = []
    for name, identity, camera, split in fields:
        photograph(0).save(folder / name)
        records.append(ImageRecord(str(folder / name), identity, camera=camera, split=split))
    return records


def test_a_query_in_another_lossless_format_is_shared(tmp_path):
    records = formats(tmp_path, ("a.png", 1, None, "query"), ("b.bmp", 1, None, "gallery"))

    report = validate_records(records, on_error="report")

    assert kinds(report) == {"shared": ("error", 1), "duplicate": ("note", 1)}


def test_a_query_saved_as_jpeg_again_is_a_near_copy(tmp_path):
    records = formats(tmp_path, ("a.png", 1, None, "query"), ("b.jpg", 1, None, "gallery"))

    report = validate_records(records)

    assert kinds(report)["near_copy"] == ("note", 1)
    assert "a.png ~ " in report.findings[0].examples[0]


@pytest.mark.parametrize(
    "gallery",
    [("b.jpg", 1, 1, "gallery"), ("b.jpg", 2, 2, "gallery")],
    ids=["same camera", "another identity"],
)
def test_a_near_copy_that_is_no_match_is_no_finding(tmp_path, gallery):
    records = formats(tmp_path, ("a.png", 1, 1, "query"), gallery)
    assert "near_copy" not in kinds(validate_records(records, on_error="report"))


def test_a_training_image_saved_as_jpeg_again_in_the_test_is_a_near_copy(tmp_path):
    records = formats(tmp_path, ("a.png", 1, None, "train"), ("b.jpg", 2, None, "gallery"))
    assert kinds(validate_records(records))["near_copy"] == ("note", 1)


def test_nothing_is_compared_without_duplicates(tmp_path):
    records = formats(tmp_path, ("a.png", 1, None, "query"), ("b.bmp", 1, None, "gallery"))
    assert kinds(validate_records(records, duplicates=False)) == {}

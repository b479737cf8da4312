import dataclasses
import json

from clipreid_kit.data import Finding, ImageRecord, ValidationReport
from clipreid_kit.data.validation.report import balance_of

RECORDS = [
    ImageRecord("a.jpg", 1, camera=0, split="train"),
    ImageRecord("b.jpg", 1, camera=1, split="train"),
    ImageRecord("c.jpg", 1, camera=1, split="train"),
    ImageRecord("d.jpg", 2, camera=1, split="train"),
    ImageRecord("e.jpg", 3),
]
FINDINGS = (
    Finding("no_match", "error", 5, "5 queries without a match", ("0.jpg", "1.jpg", "2.jpg")),
    Finding("single_image", "note", 1, "1 identities with one image", ("9",)),
)
REPORT = ValidationReport(RECORDS, 7, FINDINGS, balance_of(RECORDS))


def test_the_balance_of_each_split():
    balance = balance_of(RECORDS)

    assert list(balance) == ["train", "-"]
    assert dataclasses.astuple(balance["train"]) == (4, 2, 2, 1, 2.0, 3)
    assert dataclasses.astuple(balance["-"]) == (1, 1, 0, 1, 1, 1)


def test_the_text_has_a_line_for_each_finding_and_split():
    assert str(REPORT).splitlines() == [
        "7 records, 2 left out",
        "error: 5 queries without a match: 0.jpg, 1.jpg, 2.jpg, ...",
        "note: 1 identities with one image: 9",
        "split  images  identities  cameras  images per identity (fewest, median, most)",
        "train  4       2           2        1, 2, 3",
        "-      1       1           -        1, 1, 1",
    ]


def test_the_text_of_nothing_found():
    report = ValidationReport(RECORDS, 5, (), {})
    assert str(report).splitlines()[:2] == ["5 records", "nothing found"]


def test_the_repr_is_the_text_and_not_the_records():
    assert repr(REPORT) == str(REPORT)
    assert "ImageRecord" not in repr(REPORT)


def test_counts():
    assert REPORT.counts == {"records": 7, "skipped": 2, "no_match": 5, "single_image": 1}


def test_the_dictionary_is_json():
    content = json.loads(json.dumps(REPORT.to_dict()))

    assert content["counts"] == REPORT.counts
    assert content["findings"][0]["examples"] == ["0.jpg", "1.jpg", "2.jpg"]
    assert content["balance"]["train"]["images"] == 4

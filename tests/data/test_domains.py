from collections import Counter
from dataclasses import replace

import pytest

from clipreid_kit.data import (
    ImageRecord,
    domain_names,
    domain_numbers,
    join_domains,
    leave_one_domain_out,
    read_table,
    write_table,
)

SPLITS = ("train", "val_query", "val_gallery", "query", "gallery")


def source(name, splits=SPLITS, identities=3, images=2):
    return [
        ImageRecord(f"{name}/{split}/{identity}_{image}.png", identity, camera=image, split=split)
        for split in splits
        for identity in range(identities)
        for image in range(images)
    ]


def joined(*names):
    return join_domains({name: source(name) for name in names})


def counts(records):
    return Counter((record.extra["domain"], record.split) for record in records)


def test_identities_and_cameras_of_domains_stay_apart():
    records = joined("a", "b")
    assert {record.identity for record in records} == {f"{d}/{i}" for d in "ab" for i in range(3)}
    assert {record.camera for record in records} == {"a/0", "a/1", "b/0", "b/1"}
    assert [record.path for record in records] == [r.path for d in "ab" for r in source(d)]
    without = join_domains({"a": [replace(source("a")[0], camera=None, extra={"hat": "red"})]})
    assert without[0].camera is None
    assert without[0].extra == {"hat": "red", "domain": "a"}


def test_a_table_keeps_the_domain(tmp_path):
    records = joined("a", "b")
    write_table(records, tmp_path / "both.csv")
    read = read_table(tmp_path / "both.csv")
    assert domain_names(read) == ["a"] * 30 + ["b"] * 30
    assert domain_numbers(read).tolist() == [0] * 30 + [1] * 30


@pytest.mark.parametrize("left_out", ["a", "b", "c"])
def test_each_domain_is_tested_by_what_was_trained_on_the_others(left_out):
    chosen = leave_one_domain_out(joined("a", "b", "c"), left_out)
    expected = {(left_out, "query"): 6, (left_out, "gallery"): 6}
    for other in set("abc") - {left_out}:
        expected |= {(other, split): 6 for split in ("train", "val_query", "val_gallery")}
    assert counts(chosen) == expected


def test_a_domain_without_splits_trains_or_tests_as_a_whole():
    records = join_domains({"a": source("a", [None]), "b": source("b", [None])})
    assert counts(leave_one_domain_out(records, "b")) == {("a", "train"): 6, ("b", "test"): 6}


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (joined("a"), "at least two domains, got 'a' of a"),
        (joined("b", "c"), "at least two domains, got 'a' of b, c"),
        (
            join_domains({"a": source("a", ["train"]), "b": source("b")}),
            "a has 0 identities with two images or more to test with, and needs 2",
        ),
        (
            join_domains({"a": source("a"), "b": source("b", images=1)}),
            "b has 0 identities with two images or more to train on, and needs 2",
        ),
        (source("a"), "30 of 30 records have no domain"),
    ],
)
def test_too_little_is_refused(records, message):
    with pytest.raises(ValueError, match=message):
        leave_one_domain_out(records, "a")


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({}, "there are no domains"),
        ({"a": []}, "records for each domain, got 0 for 'a'"),
        ({"": source("a")}, "a name and records"),
        ({"b": joined("a")}, "records of b, got a/train/0_0.png of 'a'"),
    ],
)
def test_what_is_no_domain_cannot_be_joined(sources, message):
    with pytest.raises(ValueError, match=message):
        join_domains(sources)

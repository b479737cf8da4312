from datetime import date

import pytest

from clipreid_kit.data import ImageRecord, split_by_time


def taken(*times, column="time"):
    records = []
    for number, time in enumerate(times):
        extra = {} if time is None else {column: time}
        records.append(ImageRecord(f"set/{number}.jpg", number, extra=extra))
    return records


def test_images_of_the_day_itself_come_later():
    records = taken("2024-02-29T23:59:59", "2024-03-01", "2024-03-01T00:00:01", "2023-12-31")
    split = split_by_time(records, "2024-03-01")
    assert split.splits == {"gallery": ("0.jpg", "3.jpg"), "query": ("1.jpg", "2.jpg")}
    assert split.rule == "gallery before 2024-03-01T00:00:00, query from then on"


def test_dates_of_cameras_columns_and_names():
    records = taken("2024:02:29 10:00:00", "2024:03:01 00:00:00", column="taken")
    split = split_by_time(records, date(2024, 3, 1), column="taken", names=("train", "test"))
    assert split.splits == {"train": ("0.jpg",), "test": ("1.jpg",)}


def test_time_zones_are_compared():
    records = taken("2024-03-01T00:30:00+02:00", "2024-03-01T00:30:00Z")
    split = split_by_time(records, "2024-03-01T00:00:00Z")
    assert split.splits == {"gallery": ("0.jpg",), "query": ("1.jpg",)}


@pytest.mark.parametrize(
    ("times", "since", "problem"),
    [
        (("2024-01-01", None), "2024-03-01", r"set/1\.jpg has no 'time'\. Fill that column"),
        (("yesterday",), "2024-03-01", r"expected 'time' of set/0\.jpg as a date such as"),
        (("2024-01-01",), "spring", "expected since as a date such as 2024-03-01"),
        (("2024-01-01T00:00:00Z",), "2024-03-01", "only one of since and .* has a time zone"),
        (("2024-01-01",), "2024-03-01", "leave no image for 'query'"),
        ((), "2024-03-01", "there are no records to split"),
    ],
)
def test_what_is_no_time_is_explained(times, since, problem):
    with pytest.raises(ValueError, match=f"split_by_time: .*{problem}|{problem}"):
        split_by_time(taken(*times), since)

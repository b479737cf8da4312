"""Ranges of dates and times."""

from datetime import date, datetime, timezone

import pytest

from clipreid_kit.retrieval import Between, Not
from clipreid_kit.retrieval.store.conditions import matches

DAY = date(2026, 11, 29)
TIMES = {
    "2026-11-28T23:59:59": -1,
    "2026-11-29": 0,
    "2026-11-29T00:00:00": 0,
    "2026-11-29 23:59:59.5": 0,
    "2026:11:29 12:00:00": 0,
    "2026-11-29T23:59:59+02:00": 0,
    "2026-11-29T12:00:00Z": 0,
    "2026-11-30": 1,
}


@pytest.mark.parametrize("text", TIMES)
def test_a_date_is_the_whole_day(text):
    place = TIMES[text]
    assert matches(Between(DAY, None), text) == (place >= 0)
    assert matches(Between(None, DAY), text) == (place <= 0)
    assert matches(Between(DAY, DAY), text) == (place == 0)
    assert matches(Not(Between(DAY, DAY)), text) == (place != 0)


def test_times_are_compared_as_times():
    noon = datetime.fromisoformat("2026-11-29T12:00")
    assert matches(Between(noon, None), "2026-11-29 12:00")
    assert not matches(Between(noon, None), "2026-11-29 11:59:59")
    assert matches(Between(date(2026, 11, 1), noon), "2026:11:29 12:00:00")
    assert not matches(Between(date(2026, 11, 1), noon), "2026:11:29 12:00:01")

    in_utc = datetime(2026, 11, 29, 12, tzinfo=timezone.utc)
    assert matches(Between(in_utc, in_utc), "2026-11-29T14:00:00+02:00")


@pytest.mark.parametrize("value", ["rex", "", None, 20261129, True])
def test_what_is_no_time_is_in_no_range(value):
    assert not matches(Between(DAY, None), value)


def test_time_zones_are_given_on_both_sides():
    with pytest.raises(ValueError, match=r"of an image has a time zone, and one has none"):
        matches(Between(datetime.fromisoformat("2026-11-29"), None), "2026-11-29T12:00:00Z")
    with pytest.raises(ValueError, match=r"only one of .* has a time zone"):
        Between(datetime.fromisoformat("2026-01-01"), datetime(2026, 2, 1, tzinfo=timezone.utc))
    with pytest.raises(ValueError, match="both as numbers, both as text or both as dates"):
        Between(DAY, "2026-12-01")
    with pytest.raises(ValueError, match="give one end at least"):
        Between()

"""Conditions on the columns of an index: equality, lists, ranges and negation."""

import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from clipreid_kit.data.moments import read_moment


@dataclass(frozen=True, slots=True)
class Between:
    """A range of values, both ends included, for ``where`` of :meth:`GalleryIndex.search`.

    Numbers are compared as numbers, also with columns that hold them as text, as tables do. Text is
    compared by its characters. A ``date`` or a ``datetime`` is compared with columns that hold
    times as text, in ISO 8601 or as cameras write it (``2026:11:29 10:00:00``); a ``date`` means
    the whole day. Either all times have a time zone or none.

    Attributes:
        low: The lowest value; ``None`` for no lower end.
        high: The highest value; ``None`` for no upper end.

    Example:
        >>> from datetime import date
        >>> where = {"frame": Between(100, 250), "taken": Between(date(2026, 1, 1), None)}
    """

    low: float | str | date | None = None
    high: float | str | date | None = None

    def __post_init__(self) -> None:
        ends = [end for end in (self.low, self.high) if end is not None]
        kinds = {_kind(end) for end in ends}
        if len(kinds) != 1:
            raise ValueError(
                f"Between: give one end at least, and both as numbers, both as text or both as "
                f"dates; got {self.low!r} and {self.high!r}."
            )
        zones = {end.tzinfo is None for end in ends if isinstance(end, datetime)}
        if len(zones) > 1:
            raise ValueError(
                f"Between: only one of {self.low} and {self.high} has a time zone. Give both with "
                "one, or both without."
            )


@dataclass(frozen=True, slots=True)
class Not:
    """Every value but some, for ``where`` of :meth:`GalleryIndex.search`.

    Attributes:
        condition: A value, a list of values or a :class:`Between`.

    Example:
        >>> where = {"camera": Not([1, 2])}
    """

    condition: object


def matches(condition: object, value: object) -> bool:
    """Return whether a value of a column meets a condition."""
    if isinstance(condition, Not):
        return not matches(condition.condition, value)
    if isinstance(condition, Between):
        return _is_between(condition, value)
    if isinstance(condition, Iterable) and not isinstance(condition, str | bytes):
        return any(matches(item, value) for item in condition)
    return _is_equal(condition, value)


def _is_equal(first: object, second: object) -> bool:
    """Return whether two values are equal; ``True`` is not 1."""
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)


def _is_between(condition: Between, value: object) -> bool:
    """Return whether a value lies in a range."""
    if isinstance(condition.low, date) or isinstance(condition.high, date):
        return isinstance(value, str) and _is_in_time(condition, value)
    if isinstance(condition.low, str) or isinstance(condition.high, str):
        return isinstance(value, str) and _in_order(condition.low, value, condition.high)

    number = as_number(value)
    return number is not None and _in_order(condition.low, number, condition.high)


def _is_in_time(condition: Between, text: str) -> bool:
    """Return whether a time lies in a range of times; false for text that is no time."""
    moment = read_moment(text)
    if moment is None:
        return False

    for end in (condition.low, condition.high):
        if isinstance(end, datetime) and (end.tzinfo is None) != (moment.tzinfo is None):
            raise ValueError(
                f"Between: one of {end} and the time {text!r} of an image has a time zone, and one "
                "has none. Give both with one, or both without."
            )
    low, high = condition.low, condition.high
    if isinstance(low, date):
        low = low if isinstance(low, datetime) else _start_of(low, moment)
        if moment < low:
            return False
    if isinstance(high, datetime):
        return moment <= high
    return not isinstance(high, date) or moment < _start_of(high + timedelta(days=1), moment)


def _start_of(day: date, moment: datetime) -> datetime:
    """Return the start of a day, in the time zone of a moment."""
    return datetime(day.year, day.month, day.day, tzinfo=moment.tzinfo)


def _kind(end: object) -> str:
    if isinstance(end, str):
        return "text"
    return "date" if isinstance(end, date) else "number"


def _in_order(low: object, value: object, high: object) -> bool:
    above = low is None or low <= value  # type: ignore[operator]
    below = high is None or value <= high  # type: ignore[operator]
    return bool(above and below)


def as_number(value: object) -> float | None:
    """Return a value as a number; ``None`` if it is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None

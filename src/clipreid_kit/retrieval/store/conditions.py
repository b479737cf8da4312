"""Conditions on the columns of an index: equality, lists, ranges and negation."""

import numbers
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Between:
    """A range of values, both ends included, for ``where`` of :meth:`GalleryIndex.search`.

    Numbers are compared as numbers, also with columns that hold them as text, as tables do. Text is
    compared by its characters, which suits dates such as ``2026-11-29``.

    Attributes:
        low: The lowest value; ``None`` for no lower end.
        high: The highest value; ``None`` for no upper end.

    Example:
        >>> where = {"frame": Between(100, 250), "date": Between("2026-01-01", None)}
    """

    low: float | str | None = None
    high: float | str | None = None

    def __post_init__(self) -> None:
        ends = [end for end in (self.low, self.high) if end is not None]
        kinds = {isinstance(end, str) for end in ends}
        if len(kinds) != 1:
            raise ValueError(
                f"Between: give one end at least, and both as numbers or both as text; got "
                f"{self.low!r} and {self.high!r}."
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
    if isinstance(condition.low, str) or isinstance(condition.high, str):
        return isinstance(value, str) and _in_order(condition.low, value, condition.high)

    number = as_number(value)
    return number is not None and _in_order(condition.low, number, condition.high)


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

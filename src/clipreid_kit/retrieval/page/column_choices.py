"""Choices of the page's filters: the values of each column of an index."""

import math
from collections import Counter
from typing import Any

from clipreid_kit.retrieval.gallery_index import GalleryIndex

MAX_CHOICES = 1000
_MOST_NUMBERS_TO_CHOOSE = 60  # more of them are offered as a range

_NOT_FILTERED = ("path", "caption")


def column_choices(index: GalleryIndex) -> list[dict[str, Any]]:
    """Describe the columns that an index can be filtered by.

    Args:
        index: The index.

    Returns:
        For each column that has any value, ``name`` and ``kind``: ``"choice"`` with ``choices``,
        each a value and how many images have it; ``"range"`` with ``low`` and ``high``, for many
        numbers; or ``"text"``, for more values than a list can show. Empty without records.

    Raises:
        ValueError: If a file of the index is damaged.
    """
    described = []
    for name in index.info().columns:
        if name in _NOT_FILTERED:
            continue

        counts = Counter(value for value in index.column(name) if value is not None)
        if counts:
            described.append({"name": name, **_describe(name, counts)})
    return described


def _describe(name: str, counts: "Counter[Any]") -> dict[str, Any]:
    """Choose how the values of a column are offered."""
    numbers = [_number(value) for value in counts]
    is_numeric = all(number is not None for number in numbers)
    is_name = name in ("identity", "camera")
    if is_numeric and not is_name and len(counts) > _MOST_NUMBERS_TO_CHOOSE:
        known = [number for number in numbers if number is not None]
        return {"kind": "range", "low": min(known), "high": max(known)}
    if len(counts) > MAX_CHOICES:
        return {"kind": "text"}

    ordered = sorted(counts.items(), key=lambda item: _order(item[0]))
    return {
        "kind": "choice",
        "choices": [{"value": value, "count": count} for value, count in ordered],
    }


def _order(value: object) -> tuple[bool, float, str]:
    """Numbers first, by size, and then text."""
    number = _number(value)
    return (number is None, 0.0 if number is None else number, str(value))


def _number(value: object) -> float | None:
    """Return a finite number, also one that is written as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None

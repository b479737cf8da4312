"""Conditions on columns as expressions of Milvus, and columns as the values that these compare.

Milvus Lite and servers differ in what a missing value, ``null``, ``true`` or a list means. So every
value of a column is kept as a text of our own, of letters and digits: equal values have equal
texts, text sorts as its characters do, and nothing has to be escaped. Numbers are kept a second
time, as numbers, for ranges. Columns are named by their position.
"""

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.store.conditions import Between, Not, as_number
from clipreid_kit.retrieval.store.record_columns import value_of

_NOBODY = "key < 0"
_NONE = "0"
_AFTER_TEXT = "t"  # sorts after every text
_LARGEST = 1.7e308


def value_token(value: object) -> str | None:
    """Return the text of a value: equal for equal values; ``None`` if no column can hold it.

    Example:
        >>> value_token(7), value_token(7.0), value_token("7"), value_token(True)
        ('n7', 'n7', 's37', 'b1')
    """
    value = _plain(value)
    if value is None:
        return _NONE
    if isinstance(value, bool):
        return f"b{int(value)}"
    if isinstance(value, str):
        return "s" + value.encode("utf-8", "surrogatepass").hex()
    if isinstance(value, int):
        return f"n{value}"
    if isinstance(value, numbers.Real):
        number = float(value)
        return f"n{int(number)}" if number.is_integer() else f"n{number!r}"
    return None


def column_values(
    record: ImageRecord, columns: Sequence[str]
) -> tuple[dict[str, str], dict[str, float]]:
    """Return the texts and the numbers of a record's columns, by the name of the column in Milvus.

    Args:
        record: The record.
        columns: All columns; their positions are their names.
    """
    texts: dict[str, str] = {}
    found: dict[str, float] = {}
    for position, name in enumerate(columns):
        value = value_of(record, name)
        token = value_token(value)
        if token is None or token == _NONE:
            continue  # what is missing is None

        texts[f"c{position}"] = token
        number = as_number(value)
        if number is not None and not math.isnan(number):
            found[f"c{position}"] = max(-_LARGEST, min(_LARGEST, number))
    return texts, found


def expression(conditions: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    """Return an expression of Milvus that holds where all conditions do; empty for no condition.

    Args:
        conditions: Conditions by column; every column is there.
        columns: All columns.

    Example:
        >>> expression([{"camera": [1, None]}], ["path", "camera"])
        '(((exists columns["c1"]) and (columns["c1"] == "n1")) or (not (exists columns["c1"])))'
    """
    parts = [
        _of_column(f"c{columns.index(name)}", condition)
        for where in conditions
        for name, condition in where.items()
    ]
    return " and ".join(parts)


def _of_column(column: str, condition: object) -> str:
    """Return the expression of a condition on one column.

    Every comparison begins with ``exists``, so that it is true or false and never unknown, and may
    be negated. Older servers want every part in parentheses.
    """
    if isinstance(condition, Not):
        return f"(not {_of_column(column, condition.condition)})"
    if isinstance(condition, Between):
        return _of_range(column, condition)
    if isinstance(condition, Iterable) and not isinstance(condition, str | bytes):
        parts = [_of_column(column, item) for item in condition]
        return f"({' or '.join(parts)})" if parts else f"({_NOBODY})"

    token = value_token(condition)
    if token is None:
        return f"({_NOBODY})"
    if token == _NONE:
        return f'(not (exists columns["{column}"]))'
    return f'((exists columns["{column}"]) and (columns["{column}"] == "{token}"))'


def _of_range(column: str, condition: Between) -> str:
    low, high = condition.low, condition.high
    if isinstance(low, date) or isinstance(high, date):
        raise ValueError(
            "GalleryIndex: Milvus compares times by their characters, not as dates. Pass the ends "
            'of the range as text, such as Between("2026-02-01", "2026-02-28T23:59:59").'
        )
    if isinstance(low, str) or isinstance(high, str):
        least = "s" if low is None else value_token(low)
        field = f'columns["{column}"]'
        end = f'< "{_AFTER_TEXT}"' if high is None else f'<= "{value_token(high)}"'
        return f'((exists {field}) and ({field} >= "{least}") and ({field} {end}))'

    field = f'numbers["{column}"]'
    parts = [f"(exists {field})"]
    if low is not None:
        parts.append(f"({field} >= {_number(low)})")
    if high is not None:
        parts.append(f"({field} <= {_number(high)})")
    return f"({' and '.join(parts)})"


def _number(value: float) -> str:
    """Write a number as Milvus reads it; all its numbers are finite."""
    return repr(max(-_LARGEST, min(_LARGEST, float(value))))


def _plain(value: object) -> Any:  # noqa: ANN401
    """Return an element of an array or a tensor as a plain value."""
    item = getattr(value, "item", None)
    return item() if callable(item) else value

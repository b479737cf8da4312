"""Conditions on the columns of an index, as the command line writes them."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clipreid_kit.retrieval import Between

WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=VALUE",
        help="camera=1,2, camera!=3, frame=10..200, taken=2026-01-01..; several times, all hold.",
    ),
]


def parse_conditions(texts: Sequence[str] | None) -> dict[str, object]:
    """Read conditions for ``where`` of a search.

    A value that is a number also meets a column that holds it as text.

    Raises:
        typer.BadParameter: If one has no column or no value, or two are about one column.
    """
    from clipreid_kit.retrieval import Not

    conditions: dict[str, object] = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        is_negated = name.endswith("!")
        name = name.removesuffix("!").strip()
        if not (name and sign and value):
            raise typer.BadParameter(f"--where {text}: write COLUMN=VALUE")
        if name in conditions:
            raise typer.BadParameter(f"--where {text}: there is another condition on {name}")

        condition = _condition(value)
        conditions[name] = Not(condition) if is_negated else condition
    return conditions


def _condition(text: str) -> object:
    """Read a value, a list of values, or a range."""
    low, dots, high = text.partition("..")
    if dots:
        return _range(low, high)

    values: list[object] = []
    for part in text.split(","):
        values.append(part)
        if _is_integer(part):
            values.append(int(part))
    return values


def _range(low: str, high: str) -> "Between":
    from clipreid_kit.retrieval import Between

    ends = [end for end in (low, high) if end]
    try:
        numbers = [float(end) for end in ends]
    except ValueError:
        return _range_of_times(low, high)

    first, last = numbers[0] if low else None, numbers[-1] if high else None
    return Between(first, last)


def _range_of_times(low: str, high: str) -> "Between":
    """Read a range of dates or times, otherwise one of text; an end without a time is a day."""
    from clipreid_kit.data.moments import read_moment
    from clipreid_kit.retrieval import Between

    ends: list[date | None] = []
    for text in (low, high):
        moment = read_moment(text) if text else None
        if text and moment is None:
            return Between(low or None, high or None)
        is_day = moment is not None and len(text.strip()) == len("2026-11-29")
        ends.append(moment.date() if moment is not None and is_day else moment)
    return Between(*ends)


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()

"""Balance groups of records by under- and over-sampling."""

from collections.abc import Callable, Hashable, Sequence
from itertools import chain
from typing import Literal

import torch

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data.records import ImageRecord

Group = (
    Literal["category", "caption_length", "identity", "camera", "view", "modality"]
    | Callable[[ImageRecord], Hashable]
)

_OWNER = "balance_records"
_BIN = 20  # characters of a caption


def balance_records(
    records: Sequence[ImageRecord],
    by: Group = "category",
    *,
    at_most: int | Literal["smallest"] | None = "smallest",
    at_least: int | Literal["largest"] | None = None,
    seed: int = 0,
) -> list[ImageRecord]:
    """Balance groups by under- and over-sampling.

    Use it on the training split, and pass the result to :class:`ReidDataset`.

    Args:
        records: The records to balance.
        by: Property that defines a group: the extra column ``category``, the caption's length in
            bins of 20 characters, the identity, camera, view or modality, or a function from a
            record to anything hashable.
        at_most: Larger groups lose random records; ``"smallest"`` reduces all groups to the size of
            the smallest. ``None`` drops no records.
        at_least: The records of smaller groups are repeated evenly; ``"largest"`` extends all
            groups to the size of the largest (after ``at_most``). ``None`` repeats no records.
        seed: Seed of the random choices, >= 0.

    Returns:
        The kept records in their order, then the repeated ones. Empty if there are no records.

    Raises:
        ValueError: If a record lacks the property ``by``, or a number is out of range.

    Example:
        >>> records = [ImageRecord(f"{n}.jpg", n, view="front" if n else "back") for n in range(4)]
        >>> [record.view for record in balance_records(records, "view")]
        ['back', 'front']
        >>> [record.view for record in balance_records(records, "view", at_most=None, at_least=2)]
        ['back', 'front', 'front', 'front', 'back']
    """
    check_integer(_OWNER, "seed", seed, 0)
    _check_size("at_most", at_most, "smallest")
    _check_size("at_least", at_least, "largest")

    groups = _rows_by_group(records, by)
    if not groups:
        return []

    rng = torch.Generator().manual_seed(seed)

    most = min(map(len, groups)) if at_most == "smallest" else at_most
    if most is not None:
        groups = [_draw(rows, most, rng) for rows in groups]

    least = max(map(len, groups)) if at_least == "largest" else at_least
    if least is not None and most is not None and least > most:
        raise fail(_OWNER, "at_least <= at_most", f"{least} and {most}")

    repeated: list[int] = []
    if least is not None:
        for rows in groups:
            repeated += _repeat(rows, max(0, least - len(rows)), rng)

    in_order = sorted(chain.from_iterable(groups))
    return [records[row] for row in (*in_order, *repeated)]


def _check_size(name: str, size: int | str | None, word: str) -> None:
    if size is None or size == word:
        return
    if isinstance(size, str):
        raise fail(_OWNER, f"{name} as a whole number, {word!r} or None", repr(size))

    check_integer(_OWNER, name, size, 1)


def _rows_by_group(records: Sequence[ImageRecord], by: Group) -> list[list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for row, record in enumerate(records):
        groups.setdefault(_group_of(record, by), []).append(row)

    return list(groups.values())


def _draw(rows: list[int], count: int, rng: torch.Generator) -> list[int]:
    """Draw ``count`` rows at random, in their order; all if there are no more."""
    if count >= len(rows):
        return rows

    positions = torch.randperm(len(rows), generator=rng, device="cpu")[:count].sort().values
    return [rows[position] for position in positions.tolist()]


def _repeat(rows: list[int], count: int, rng: torch.Generator) -> list[int]:
    """List ``count`` repetitions in all, spread evenly over the rows."""
    times, remainder = divmod(count, len(rows))
    return rows * times + _draw(rows, remainder, rng)


def _group_of(record: ImageRecord, by: Group) -> Hashable:
    if callable(by):
        return by(record)

    value: Hashable | None
    if by == "category":
        value = record.extra.get("category")
    elif by == "caption_length":
        value = None if record.caption is None else len(record.caption) // _BIN
    elif by in ("identity", "camera", "view", "modality"):
        value = getattr(record, by)
    else:
        expected = (
            "by to be category, caption_length, identity, camera, view, modality or a function"
        )
        raise fail(_OWNER, expected, repr(by))

    if value is None:
        name = "caption" if by == "caption_length" else by
        raise ValueError(
            f"{_OWNER}: {record.path} has no {name}. Fill it for every record, or pass a function."
        )

    return value

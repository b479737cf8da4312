"""Fewer of what there is much of, more of what there is little of."""

from collections.abc import Callable, Hashable, Sequence
from typing import Literal

import torch

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data.records import ImageRecord

Group = (
    Literal["category", "caption_length", "identity", "camera", "view"]
    | Callable[[ImageRecord], Hashable]
)
_BIN = 20  # characters


def balance_records(
    records: Sequence[ImageRecord],
    by: Group = "category",
    *,
    at_most: int | Literal["smallest"] | None = "smallest",
    at_least: int | Literal["largest"] | None = None,
    seed: int = 0,
) -> list[ImageRecord]:
    """Balance records between groups, by leaving some out and by repeating others.

    Use it on the training split, and give what it returns to the :class:`ReidDataset`.

    Args:
        records: What to balance.
        by: What makes a group: the extra column ``category``, the caption's length in bins of 20 characters, the
            identity, camera or view, or a function from a record to anything hashable.
        at_most: Groups that are larger lose records, drawn at random; ``"smallest"`` brings all to the size of the
            smallest. ``None`` leaves none out.
        at_least: Groups that are smaller are repeated, evenly; ``"largest"`` brings all to the size of the largest
            (after ``at_most``). ``None`` repeats none.
        seed: Of what is drawn, >= 0.

    Returns:
        The records that stay in their order, then the repeated ones. No records give none.

    Raises:
        ValueError: If a record has not what ``by`` names, or a number is out of range.

    Example:
        >>> records = [ImageRecord(f"{n}.jpg", n, view="front" if n else "back") for n in range(4)]
        >>> [record.view for record in balance_records(records, "view")]
        ['back', 'front']
        >>> [record.view for record in balance_records(records, "view", at_most=None, at_least=2)]
        ['back', 'front', 'front', 'front', 'back']
    """
    owner = "balance_records"
    check_integer(owner, "seed", seed, 0)
    for name, number, word in (("at_most", at_most, "smallest"), ("at_least", at_least, "largest")):
        if isinstance(number, str):
            if number != word:
                raise fail(owner, f"{name} as a whole number, {word!r} or None", repr(number))
        elif number is not None:
            check_integer(owner, name, number, 1)
    groups: dict[Hashable, list[int]] = {}
    for row, record in enumerate(records):
        groups.setdefault(_group(owner, record, by), []).append(row)
    if not groups:
        return []
    rng = torch.Generator().manual_seed(seed)
    most: int | None = min(map(len, groups.values())) if at_most == "smallest" else at_most
    chosen = {
        name: _draw(rows, most, rng) if most is not None else rows for name, rows in groups.items()
    }
    least: int | None = max(map(len, chosen.values())) if at_least == "largest" else at_least
    if least is not None and most is not None and least > most:
        raise fail(owner, "at_least <= at_most", f"{least} and {most}")
    kept = sorted(row for rows in chosen.values() for row in rows)
    repeated: list[int] = []
    for rows in chosen.values():
        missing = max(0, (least or 0) - len(rows))
        repeated += rows * (missing // len(rows)) + _draw(rows, missing % len(rows), rng)
    return [records[row] for row in (*kept, *repeated)]


def _draw(rows: list[int], number: int, rng: torch.Generator) -> list[int]:
    if number >= len(rows):
        return rows
    return [
        rows[place]
        for place in torch.randperm(len(rows), generator=rng)[:number].sort().values.tolist()
    ]


def _group(owner: str, record: ImageRecord, by: Group) -> Hashable:
    if callable(by):
        return by(record)
    value: Hashable | None
    if by == "category":
        value = record.extra.get("category")
    elif by == "caption_length":
        value = None if record.caption is None else len(record.caption) // _BIN
    elif by in ("identity", "camera", "view"):
        value = getattr(record, by)
    else:
        raise fail(
            owner,
            "by to be category, caption_length, identity, camera, view or a function",
            repr(by),
        )
    if value is None:
        name = "caption" if by == "caption_length" else by
        raise fail(
            owner,
            f"a {name} for every record",
            f"none for {record.path}",
            "Fill it, or pass a function.",
        )
    return value

"""Rows of a nested batch: tensors in dicts, lists, tuples and dataclasses."""

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from clipreid_kit._checks import describe, fail


def tensors_in(batch: object) -> Iterator[Tensor]:
    """All tensors in a nested batch."""
    if isinstance(batch, Tensor):
        yield batch
        return

    parts: Iterable[object] = ()
    if isinstance(batch, Mapping):
        parts = batch.values()
    elif isinstance(batch, list | tuple):
        parts = batch
    elif _is_record(batch):
        parts = _fields(batch).values()

    for part in parts:
        yield from tensors_in(part)


def slice_rows(
    batch: Any,  # noqa: ANN401 (any structure)
    start: int,
    stop: int,
    *,
    copy_rows: bool = False,
) -> Any:  # noqa: ANN401 (any structure)
    """Slice the rows of every tensor in a nested batch; other values are unchanged."""
    part_of = partial(slice_rows, start=start, stop=stop, copy_rows=copy_rows)

    if isinstance(batch, Tensor):
        rows = batch[start:stop]
        return rows.clone() if copy_rows else rows

    if isinstance(batch, Mapping):
        return {key: part_of(value) for key, value in batch.items()}

    if isinstance(batch, list | tuple):
        parts = [part_of(value) for value in batch]
        is_named_tuple = hasattr(batch, "_fields")
        return type(batch)(*parts) if is_named_tuple else type(batch)(parts)

    if _is_record(batch):
        record = copy.copy(batch)
        for name, value in _fields(batch).items():
            # Not by its constructor, which may do more; and a frozen record has no setattr.
            object.__setattr__(record, name, part_of(value))
        return record

    return batch


def num_rows_of(owner: str, name: str, batch: object) -> int:
    """Number of rows that all tensors of a nested batch have.

    Raises:
        ValueError: If there is no tensor, or their numbers of rows differ.
    """
    tensors = list(tensors_in(batch))
    sizes = {tensor.shape[0] if tensor.ndim > 0 else -1 for tensor in tensors}

    if len(sizes) != 1 or -1 in sizes:
        descriptions = ", ".join(describe(tensor) for tensor in tensors)
        got = descriptions or type(batch).__name__
        raise fail(owner, f"{name} as tensors with one number of rows", got)

    return sizes.pop()


def _is_record(batch: object) -> bool:
    """Whether this is an instance of a dataclass."""
    return dataclasses.is_dataclass(batch) and not isinstance(batch, type)


def _fields(record: Any) -> dict[str, Any]:  # noqa: ANN401 (any dataclass)
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}

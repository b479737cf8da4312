"""Rows that may not be each other's negatives: those of one identity or with one caption."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, Integer
from torch import Tensor

from clipreid_kit._checks import check_labels, fail

_MANY_PAIRS = 1 << 23  # of a block of rows, beyond which comparing whole tiles is cheaper


def number_groups(
    owner: str,
    num_rows: int,
    labels: Tensor | None,
    captions: Sequence[str | None] | None,
    images: Integer[Tensor, " n"] | None = None,
) -> list[Int[Tensor, " n"]]:
    """Number the groups that each row belongs to, one tensor for each kind of group.

    Two rows with the same number may not be negatives of each other. The first kind holds each row
    with its copies, which show the same image, the others the identities and the captions.
    """
    kinds = [torch.arange(num_rows, device="cpu")]
    if images is not None:
        check_labels(owner, "images", images, num_rows)
        kinds = [torch.unique(images.cpu(), return_inverse=True)[1]]

    if labels is not None:
        check_labels(owner, "labels", labels, num_rows)
        _, identities = torch.unique(labels.cpu(), return_inverse=True)
        kinds.append(identities)

    if captions is not None:
        if isinstance(captions, str) or len(captions) != num_rows:
            raise fail(owner, f"{num_rows} captions, one for each row", f"{len(captions)}")
        kinds.append(_number_captions(captions))

    return kinds


def _number_captions(captions: Sequence[str | None]) -> Int[Tensor, " n"]:
    """Number the captions, ignoring case and spacing; a row without one has its own number."""
    number_of: dict[object, int] = {}
    numbers = []

    for row, caption in enumerate(captions):
        key: object = ("", row)
        if caption is not None:
            key = " ".join(caption.casefold().split())
        numbers.append(number_of.setdefault(key, len(number_of)))

    return torch.tensor(numbers, dtype=torch.int64, device="cpu")


class _Kind(NamedTuple):
    """One kind of group: identities, captions, or each row alone.

    Attributes:
        number: Group of each row.
        members: Rows, sorted by group.
        size: Number of rows of each group.
        start: Position of each group's first row in ``members``.
    """

    number: Int[Tensor, " n"]
    members: Int[Tensor, " n"]
    size: Int[Tensor, " g"]
    start: Int[Tensor, " g"]


class RowGroups:
    """Finds pairs of rows that share a group, tile by tile.

    Args:
        numbers: The group of each row, from 0, one tensor for each kind of group.
        device: Device of the tiles.
    """

    def __init__(self, numbers: Sequence[Int[Tensor, " n"]], device: torch.device) -> None:
        self._kinds = []
        for kind in numbers:
            number = kind.to(device)
            members = torch.argsort(number, stable=True)
            size = torch.bincount(number)
            self._kinds.append(_Kind(number, members, size, torch.cumsum(size, 0) - size))

        # The pairs of the block of rows that was asked for last; None if there are too many.
        self._block = slice(0, 0)
        self._block_pairs: tuple[Tensor, Tensor] | None = None

    @property
    def largest(self) -> int:
        """The most rows that a row shares a group with, if no two kinds overlap."""
        return sum(int(kind.size.max()) for kind in self._kinds)

    def share_group(
        self, rows: Int[Tensor, "..."], columns: Int[Tensor, "..."]
    ) -> Bool[Tensor, "..."]:
        """Compare the two rows of each pair; shapes are broadcast."""
        same = [kind.number[rows] == kind.number[columns] for kind in self._kinds]
        return torch.stack(same).any(dim=0)

    def pairs(self, rows: Int[Tensor, " b"]) -> tuple[Int[Tensor, " p"], Int[Tensor, " p"]]:
        """List pairs of a position in ``rows`` and a row of the same group; some occur twice."""
        positions, members = [], []
        for kind in self._kinds:
            group = kind.number[rows]
            size = kind.size[group]
            position = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), size)

            # Count the members of each position's group from 0.
            begin = torch.cumsum(size, 0) - size
            nth = torch.arange(len(position), device=rows.device) - begin[position]

            positions.append(position)
            members.append(kind.members[kind.start[group][position] + nth])

        return torch.cat(positions), torch.cat(members)

    def exclude(self, tile: Tensor, top: int, left: int) -> None:
        """Write -inf where the row and the column of a tile share a group.

        Args:
            tile: Similarities of the rows from ``top`` on with the rows from ``left`` on.
            top: First row of the tile.
            left: First column of the tile.
        """
        block = slice(top, top + tile.shape[0])
        rows = torch.arange(block.start, block.stop, device=tile.device)

        if block != self._block:
            self._block = block
            self._block_pairs = self.pairs(rows) if self._num_pairs(rows) <= _MANY_PAIRS else None

        if self._block_pairs is not None:
            position, member = self._block_pairs
            inside = (member >= left) & (member < left + tile.shape[1])
            tile[position[inside], member[inside] - left] = -torch.inf
            return

        columns = torch.arange(left, left + tile.shape[1], device=tile.device)
        for kind in self._kinds:
            same = kind.number[rows][:, None] == kind.number[columns][None, :]
            tile.masked_fill_(same, -torch.inf)

    def _num_pairs(self, rows: Int[Tensor, " b"]) -> int:
        return sum(int(kind.size[kind.number[rows]].sum()) for kind in self._kinds)

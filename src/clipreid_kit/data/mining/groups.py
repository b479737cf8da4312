"""Which rows may not be each other's negatives: those of one identity, and those with one caption."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from clipreid_kit._checks import check_labels, fail

_MANY = 1 << 23  # pairs of a block of rows, beyond which comparing whole tiles is cheaper


def group_numbers(
    owner: str, rows: int, labels: Tensor | None, captions: Sequence[str | None] | None
) -> list[Int[Tensor, " n"]]:
    """Number the identities and the captions from 0; two rows of one number may not be negatives of each other."""
    groups = [torch.arange(rows)]  # a row and itself
    if labels is not None:
        check_labels(owner, "labels", labels, rows)
        groups.append(torch.unique(labels.cpu(), return_inverse=True)[1])
    if captions is not None:
        if isinstance(captions, str) or len(captions) != rows:
            raise fail(owner, f"{rows} captions, one for each row", f"{len(captions)}")
        numbers: dict[object, int] = {}
        # a row without a caption shares it with none
        tidy = [
            ("", row) if text is None else " ".join(text.casefold().split())
            for row, text in enumerate(captions)
        ]
        groups.append(
            torch.tensor(
                [numbers.setdefault(text, len(numbers)) for text in tidy], dtype=torch.int64
            )
        )
    return groups


class Groups:
    """Marks pairs of rows that share a group, tile by tile.

    Args:
        numbers: The group of each row, from 0, one tensor for each kind of group.
        device: Where the tiles are.
    """

    def __init__(self, numbers: Sequence[Int[Tensor, " n"]], device: torch.device) -> None:
        self._kinds = []
        for kind in numbers:
            number = kind.to(device)
            members = torch.argsort(number, stable=True)
            counts = torch.bincount(number)
            self._kinds.append((number, members, counts, torch.cumsum(counts, 0) - counts))
        self._rows: Tensor | None = None
        self._columns: Tensor | None = None
        self._block = slice(0, 0)

    @property
    def largest(self) -> int:
        """Most other rows that a row shares a group with, if no two kinds overlap."""
        return sum(int(counts.max()) for _, _, counts, _ in self._kinds)

    def together(self, rows: Int[Tensor, "..."], columns: Int[Tensor, "..."]) -> Tensor:
        """Whether the two rows of each pair share a group; shapes are broadcast."""
        return torch.stack([number[rows] == number[columns] for number, *_ in self._kinds]).any(
            dim=0
        )

    def pairs(self, rows: Int[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """All pairs of a place in ``rows`` and a row that shares a group with it; some occur twice."""
        found = []
        for number, members, counts, first in self._kinds:
            mine = number[rows]
            owner = torch.repeat_interleave(
                torch.arange(len(rows), device=rows.device), counts[mine]
            )
            begin = torch.cumsum(counts[mine], 0) - counts[mine]
            place = torch.arange(len(owner), device=rows.device) - begin[owner]
            found.append((owner, members[first[mine][owner] + place]))
        return torch.cat([owner for owner, _ in found]), torch.cat([member for _, member in found])

    def forbid(self, tile: Tensor, top: int, left: int) -> None:
        """Put -inf where the rows ``top``, ... and the columns ``left``, ... of a tile share a group."""
        block = slice(top, top + tile.shape[0])
        if block != self._block:
            self._block = block
            rows = torch.arange(block.start, block.stop, device=tile.device)
            many = (
                sum(int(counts[number[rows]].sum()) for number, _, counts, _ in self._kinds) > _MANY
            )
            self._rows, self._columns = (None, None) if many else self.pairs(rows)
        if self._rows is None or self._columns is None:
            columns = torch.arange(left, left + tile.shape[1], device=tile.device)
            rows = torch.arange(block.start, block.stop, device=tile.device)
            for number, *_ in self._kinds:
                tile.masked_fill_(number[rows][:, None] == number[columns][None, :], -torch.inf)
            return
        here = (self._columns >= left) & (self._columns < left + tile.shape[1])
        tile[self._rows[here], self._columns[here] - left] = -torch.inf

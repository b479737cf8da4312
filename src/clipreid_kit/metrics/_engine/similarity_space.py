"""Rows of one or several sets in one space: fast nearness with an error bound, and exact scores of single pairs.

Nearness is larger where rows are nearer: the cosine, or minus half the squared Euclidean distance of scaled rows.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._checks import check_embeddings, check_same_width
from clipreid_kit.metrics._engine.embedding_rows import Rows
from clipreid_kit.metrics._engine.exact_similarity import (
    Distance,
    pair_products,
    row_chunk,
    similarity,
    split_rows,
)
from clipreid_kit.metrics._engine.float32_pass import accumulation, inverse

IntArray = npt.NDArray[np.int64]

_CHUNK = 1 << 20  # float64 elements of a temporary: 8 MB


def nonzero(tile: Tensor, threshold: Tensor, *, strict: bool) -> Tensor:
    """Places of a matrix, as flat indices, that lie above a threshold (or reach it)."""
    if tile.device.type == "cpu":  # several times faster there
        values, lowest = tile.numpy(), threshold.numpy()
        return torch.from_numpy(np.flatnonzero(values > lowest if strict else values >= lowest))
    return torch.nonzero((tile > threshold if strict else tile >= threshold).flatten()).flatten()


def checked_sets(owner: str, names: Sequence[str], sets: Sequence[Tensor]) -> list[Rows]:
    """Require finite matrices of one width, on one device, with at least one row each."""
    for name, rows in zip(names, sets, strict=True):
        check_embeddings(owner, name, rows)
    checked = [Rows(owner, *side) for side in zip(names, sets, strict=True)]
    for name, rows, of_set in zip(names, sets, checked, strict=True):
        check_same_width(owner, names[0], sets[0], name, rows)
        of_set.norms(0, len(of_set))
    return checked


class Space:
    """Sets of rows one below the other; the sets themselves are kept as they are, beside a float32 copy.

    Args:
        sets: From :func:`checked_sets`.
        distance: ``"cosine"``, or ``"euclidean"`` for the rows as they are.

    Attributes:
        rows: What the fast product multiplies (N, D), float32: unit rows, or rows moved to their mean and scaled.
        error: For each row, how far its fast nearness may be from the exact one, float64.
        top: Nearness at distance 0: 1 for the cosine, 0 for Euclidean distance.
    """

    def __init__(self, sets: Sequence[Rows], distance: Distance) -> None:
        self.sets = [rows.block(0, len(rows)) for rows in sets]
        self.distance = distance
        self.top = 1.0 if distance == "cosine" else 0.0
        self.starts = np.cumsum([0, *map(len, sets)])
        dim, device = self.sets[0].shape[1], self.sets[0].device
        self.rows = torch.empty((len(self), dim), dtype=torch.float32, device=device)
        self._half: Tensor | None = None
        norms = torch.cat([rows.norms(0, len(rows)) for rows in sets])
        center = torch.zeros(dim, dtype=torch.float64, device=device)
        if distance == "cosine":
            factor = inverse(norms)
            self.error = torch.full_like(norms, accumulation(dim))
        else:
            first = self.sets[0][0].double()  # equal rows are moved to 0 exactly
            moved = torch.stack([(self._double(part) - first).sum(dim=0) for part in self._parts()])
            center = first + moved.sum(dim=0) / len(
                self
            )  # a common offset would cost digits, and changes no distance
            away = torch.cat(
                [
                    torch.linalg.vector_norm(self._double(part) - center, dim=1)
                    for part in self._parts()
                ]
            )
            # scaled by a power of two: nothing overflows, nothing rounds
            spread = away.max().clamp(min=max(1e-300, 2.0**-60 * float(norms.max())))
            scale = 2.0 ** -float(spread.log2().ceil())
            factor = torch.full_like(norms, scale)
            self._half = (0.5 * (away * scale).square()).float()
            lost = (
                4 * dim * 2.0**-53 * scale * (norms + norms.max())
            )  # of both rows, where they are split
            self.error = (
                1.01 * accumulation(dim) * (away * scale + 1).square() + 3 * lost + lost.square()
            )
        for part in self._parts():
            self.rows[part] = ((self._double(part) - center) * factor[part, None]).float()

    def __len__(self) -> int:
        """All rows."""
        return int(self.starts[-1])

    def nearness(
        self, rows: slice | Tensor, columns: slice, buffer: Tensor | None = None
    ) -> Tensor:
        """Fast nearness of rows to rows, in float32; a matrix in ``buffer`` if one is given."""
        first, second = self.rows[rows], self.rows[columns]
        shape = first.shape[0], second.shape[0]
        out = (
            torch.empty(shape, device=first.device)
            if buffer is None
            else buffer[: shape[0] * shape[1]].view(shape)
        )
        with torch.autocast(first.device.type, enabled=False):
            torch.mm(first, second.T, out=out)
        if self._half is None:
            return out
        return out.sub_(self._half[columns]).sub_(self._half[rows, None])

    def distances(self, first: IntArray, second: IntArray) -> Tensor:
        """Distances of pairs, ``top`` minus nearness, float32."""
        out = np.empty(len(first), dtype=np.float32)
        step = max(1, _CHUNK // self.rows.shape[1])
        for at in range(0, len(first), step):
            i, j = first[at : at + step], second[at : at + step]
            out[at : at + step] = self._pairs(i, j)
        return torch.from_numpy(out).to(self.rows.device)

    def exact(self, first: IntArray, second: IntArray) -> npt.NDArray[np.float64]:
        """Exact similarity of pairs."""
        out = np.empty(len(first))
        step = 8 * row_chunk(self.rows)
        for at in range(0, len(first), step):
            sides = [
                split_rows(self._take(rows[at : at + step]), self.distance)
                for rows in (first, second)
            ]
            scores = similarity(
                pair_products(sides[0], sides[1]), sides[0], sides[1], self.distance
            )
            out[at : at + step] = scores.cpu().numpy()
        return out

    def groups(self, part: slice) -> IntArray:
        """Number the rows of a range so that two have one number if they are equal, bit for bit."""
        rows = torch.cat(self.sets)[part]  # of different types: in the one that holds both
        data = rows.cpu().contiguous().view(torch.uint8).numpy()
        keys = np.ascontiguousarray(data).view(np.dtype((np.void, data.shape[1]))).ravel()
        return np.unique(keys, return_inverse=True)[1].astype(np.int64)

    def _pairs(self, i: IntArray, j: IntArray) -> npt.NDArray[np.float32]:
        if self.rows.device.type == "cpu":
            rows = self.rows.numpy()
            product = np.einsum("nd,nd->n", rows[i], rows[j])
        else:
            first, second = (
                torch.from_numpy(i).to(self.rows.device),
                torch.from_numpy(j).to(self.rows.device),
            )
            product = (self.rows[first] * self.rows[second]).sum(dim=1).cpu().numpy()
        result: npt.NDArray[np.float32]
        if self._half is None:
            result = 1 - product
            return result
        half = self._half.cpu().numpy()
        result = np.maximum(half[i] + half[j] - product, np.float32(0))
        return result

    def _parts(self) -> list[slice]:
        step = max(1, _CHUNK // self.rows.shape[1])
        return [slice(at, min(at + step, len(self))) for at in range(0, len(self), step)]

    def _double(self, part: slice) -> Tensor:
        pieces = []
        for start, rows in zip(self.starts[:-1].tolist(), self.sets, strict=True):
            low, high = max(part.start - start, 0), part.stop - start
            if low < len(rows) and high > 0:
                pieces.append(rows[low : min(high, len(rows))].double())
        return torch.cat(pieces)

    def _take(self, index: IntArray) -> Tensor:
        where = torch.from_numpy(index).to(self.rows.device)
        if len(self.sets) == 1:
            return self.sets[0][where].double()
        out = torch.empty(
            (len(index), self.rows.shape[1]), dtype=torch.float64, device=self.rows.device
        )
        for start, rows in zip(self.starts[:-1].tolist(), self.sets, strict=True):
            mine = (where >= start) & (where < start + len(rows))
            out[mine] = rows[where[mine] - start].double()
        return out

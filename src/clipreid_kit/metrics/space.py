"""Rows of one or several sets in one space: fast nearness with an error bound, and exact scores of single pairs.

Nearness is larger where rows are nearer: the cosine, or minus half the squared Euclidean distance of scaled rows.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._checks import check_embeddings, check_same_width, fail

Distance = Literal["cosine", "euclidean"]
IntArray = npt.NDArray[np.int64]

_CHUNK = 1 << 20  # float64 elements of a temporary: 8 MB
_U32, _U64 = 2.0**-24, 2.0**-53  # unit roundoff
_TINY = 1e-20  # more than all underflow of rows of length 1 and below can add up to
# inputs of a float32 product may be rounded first, by the precision that the program has chosen
_INPUT_ROUNDING = {"highest": 0.0, "high": 2.0**-9, "medium": 2.0**-7}


def nonzero(tile: Tensor, threshold: Tensor, *, strict: bool) -> Tensor:
    """Places of a matrix, as flat indices, that lie above a threshold (or reach it)."""
    if tile.device.type == "cpu":  # several times faster there
        values, lowest = tile.numpy(), threshold.numpy()
        return torch.from_numpy(np.flatnonzero(values > lowest if strict else values >= lowest))
    return torch.nonzero((tile > threshold if strict else tile >= threshold).flatten()).flatten()


def checked_sets(owner: str, names: Sequence[str], sets: Sequence[Tensor]) -> list[Tensor]:
    """Require finite matrices of one width with at least one row each; detached."""
    for name, rows in zip(names, sets, strict=True):
        check_embeddings(owner, name, rows)
        check_same_width(owner, names[0], sets[0], name, rows)
        if rows.shape[0] == 0:
            raise fail(owner, f"at least one row of {name}", "none")
        bad = torch.nonzero(~torch.isfinite(rows).all(dim=1)).flatten()
        if bad.numel():
            raise fail(
                owner,
                f"finite {name}",
                f"NaN or infinity in {bad.numel()} of {rows.shape[0]} rows (first: {bad[:5].tolist()})",
                "Look at the images of these rows, and at the precision that they were encoded in.",
            )
        if rows.dtype == torch.float64 and float(rows.abs().max()) > 1e140:
            raise fail(
                owner, f"{name} whose squares are float64 numbers", f"{float(rows.abs().max()):.0e}", "Scale all rows."
            )
    return [rows.detach() for rows in sets]


class Space:
    """Sets of rows one below the other; the sets themselves are kept as they are, beside a float32 copy.

    Args:
        sets: Matrices of one width on one device, finite, from :func:`checked_sets`.
        distance: ``"cosine"``, or ``"euclidean"`` for the rows as they are.

    Attributes:
        rows: What the fast product multiplies (N, D), float32: unit rows, or rows moved to their mean and scaled.
        error: For each row, how far its fast nearness may be from the exact one, float64.
        top: Nearness at distance 0: 1 for the cosine, 0 for Euclidean distance.
    """

    def __init__(self, sets: Sequence[Tensor], distance: Distance) -> None:
        self.sets = list(sets)
        self.distance = distance
        self.top = 1.0 if distance == "cosine" else 0.0
        dim = sets[0].shape[1]
        self.starts = np.cumsum([0, *(len(rows) for rows in sets)])
        device = sets[0].device
        self.rows = torch.empty((len(self), dim), dtype=torch.float32, device=device)
        norms = torch.empty(len(self), dtype=torch.float64, device=device)
        self._center = torch.zeros(dim, dtype=torch.float64, device=device)
        if distance == "euclidean":  # a common offset would cost digits, and changes no distance
            first = sets[0][0].double()  # equal rows are moved to 0 exactly
            moved = torch.stack([(self._double(part) - first).sum(dim=0) for part in self._parts()])
            self._center = first + moved.sum(dim=0) / len(self)
        for part in self._parts():
            norms[part] = _sum_in_order((self._double(part) - self._center).square()).sqrt()
        growth = (dim + 2) * _U32 / (1 - (dim + 2) * _U32)
        rounding = _input_rounding()
        relative = growth + 8 * _U32 + rounding * (2 + rounding) + 8 * dim * _U64
        self._norms = norms
        if distance == "cosine":
            factor = torch.where(norms > 0, 1 / norms, 0.0)
            self._half: Tensor | None = None
            self.error = torch.full_like(norms, 1.01 * relative + _TINY)
        else:  # scaled by a power of two: nothing overflows, nothing rounds
            scale = 2.0 ** -float(norms.max().clamp(min=1e-300).log2().ceil())
            factor = torch.full_like(norms, scale)
            self._half = (0.5 * (norms * scale).square()).float()
            self.error = 1.01 * relative * (norms * scale + 1).square() + _TINY
        for part in self._parts():
            self.rows[part] = ((self._double(part) - self._center) * factor[part, None]).float()

    def __len__(self) -> int:
        """All rows."""
        return int(self.starts[-1])

    def nearness(self, rows: slice | Tensor, columns: slice, buffer: Tensor | None = None) -> Tensor:
        """Fast nearness of rows to rows, in float32; a matrix in ``buffer`` if one is given."""
        first, second = self.rows[rows], self.rows[columns]
        shape = first.shape[0], second.shape[0]
        out = torch.empty(shape, device=first.device) if buffer is None else buffer[: shape[0] * shape[1]].view(shape)
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
        """Similarity of pairs in float64, in one fixed order of operations; equal rows have equal scores."""
        out = np.empty(len(first))
        step = max(1, _CHUNK // self.rows.shape[1])
        for at in range(0, len(first), step):
            i, j = first[at : at + step], second[at : at + step]
            a, b = self._take(i), self._take(j)
            if self.distance == "euclidean":
                score = -_sum_in_order((a - b).square())
            else:
                score = _sum_in_order(self._unit(a, i) * self._unit(b, j))
            out[at : at + step] = score.cpu().numpy()
        return out

    def groups(self, part: slice) -> IntArray:
        """Number the rows of a range so that two have one number if they are equal, bit for bit."""
        data = np.concatenate([rows.cpu().contiguous().view(torch.uint8).numpy() for rows in self.sets])[part]
        keys = np.ascontiguousarray(data).view(np.dtype((np.void, data.shape[1]))).ravel()
        return np.unique(keys, return_inverse=True)[1].astype(np.int64)

    def _pairs(self, i: IntArray, j: IntArray) -> npt.NDArray[np.float32]:
        if self.rows.device.type == "cpu":
            rows = self.rows.numpy()
            product = np.einsum("nd,nd->n", rows[i], rows[j])
        else:
            first, second = torch.from_numpy(i).to(self.rows.device), torch.from_numpy(j).to(self.rows.device)
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
        out = torch.empty((len(index), self.rows.shape[1]), dtype=torch.float64, device=self.rows.device)
        for start, rows in zip(self.starts[:-1].tolist(), self.sets, strict=True):
            mine = (where >= start) & (where < start + len(rows))
            out[mine] = rows[where[mine] - start].double()
        return out

    def _unit(self, rows: Tensor, index: IntArray) -> Tensor:
        norms = self._norms[torch.from_numpy(index).to(rows.device)]
        return rows / torch.where(norms > 0, norms, 1.0)[:, None]


def _sum_in_order(values: Tensor) -> Tensor:
    """Sum every row by folding its second half onto its first: one order of additions, on any machine."""
    while values.shape[1] > 1:
        half = (values.shape[1] + 1) // 2
        folded = values[:, :half].clone()
        folded[:, : values.shape[1] - half] += values[:, half:]
        values = folded
    return values[:, 0]


def _input_rounding() -> float:
    try:
        return _INPUT_ROUNDING[torch.get_float32_matmul_precision()]
    except RuntimeError:  # the precision of single backends was set, and torch does not say which
        return _INPUT_ROUNDING["medium"]

"""Several sets of rows in one space: fast nearness with an error bound, and exact similarities.

Nearness is larger where rows are nearer: the cosine, or minus half the squared Euclidean distance
of scaled rows.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._checks import check_embeddings, check_same_width
from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit._similarity.exact_similarity import (
    Distance,
    all_products,
    combine_products,
    pair_products,
    rows_per_chunk,
    split_rows,
)
from clipreid_kit._similarity.float32_pass import inverse_norms, product_error_bound

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

_CHUNK = 1 << 20  # float64 elements of a temporary: 8 MB
_SIDE = 512  # rows and columns of a block whose products are all computed: 4 MB for each part
_MOST_UNUSED = 4  # products that are computed for each one that is used
_PAYS_FROM = 0.5  # largest distance from the mean for which unit rows are centred
_CLOSEST = 2.0**-20  # distances from the mean below this are not scaled up further


def check_sets(owner: str, names: Sequence[str], sets: Sequence[Tensor]) -> list[EmbeddingRows]:
    """Require finite matrices of one width, on one device, with at least one row each."""
    for name, rows in zip(names, sets, strict=True):
        check_embeddings(owner, name, rows)

    checked = [EmbeddingRows(owner, name, rows) for name, rows in zip(names, sets, strict=True)]
    for name, rows, embeddings in zip(names, sets, checked, strict=True):
        check_same_width(owner, names[0], sets[0], name, rows)
        embeddings.norms(0, len(embeddings))
    return checked


class SimilaritySpace:
    """Sets of rows, numbered through; the sets are kept as they are, with a float32 copy beside.

    Args:
        sets: From :func:`check_sets`.
        distance: ``"cosine"``, or ``"euclidean"`` for the rows without normalisation.

    Attributes:
        rows: Operands of the fast product (N, D), float32: unit rows, or rows that are centred and
            scaled.
        error: For each row, how far its fast nearness may be from the exact one, float64.
        top: Nearness at distance 0: 1 for unit rows, 0 for centred ones.
        scale: A power of two that the rows are multiplied by; nearness by its square.

    Unit rows that are close to each other are centred, too, and scaled by a power of two: 1 -
    cosine is half of their squared Euclidean distance, and float32 resolves it only without the
    part that all rows share.
    """

    def __init__(self, sets: Sequence[EmbeddingRows], distance: Distance) -> None:
        self.sets = [rows.block(0, len(rows)) for rows in sets]
        self.distance = distance
        self.starts = np.cumsum([0, *map(len, sets)])
        self._half_square: Tensor | None = None

        dim, device = self.sets[0].shape[1], self.sets[0].device
        self.rows = torch.empty((len(self), dim), dtype=torch.float32, device=device)
        norms = torch.cat([rows.norms(0, len(rows)) for rows in sets])
        self._factors = inverse_norms(norms) if distance == "cosine" else None

        if distance == "cosine" and (bool((norms == 0).any()) or self._are_two_far_apart()):
            self._keep_unit_rows(norms)
            return

        center = self._mean()
        from_center = self._distances_from(center)
        if distance == "cosine" and float(from_center.max()) > _PAYS_FROM:
            self._keep_unit_rows(norms)
            return

        self.top = 0.0
        self.scale = self._scale_for_distances(norms, from_center)
        for part in self._chunks():
            self.rows[part] = ((self._operands(part) - center) * self.scale).float()

    def _keep_unit_rows(self, norms: Tensor) -> None:
        """Write unit rows, and the error bound of their products."""
        self.top = self.scale = 1.0
        self.error = torch.full_like(norms, product_error_bound(self.rows.shape[1]))
        for part in self._chunks():
            self.rows[part] = self._operands(part)

    def _are_two_far_apart(self) -> bool:
        """Return whether a row is so far from the first one that one of them is far from any mean.

        This is soon seen of most embeddings, and saves two passes over all of them.
        """
        first = self._operands(slice(0, 1))
        farthest = (torch.cdist(first, self._operands(part)).max() for part in self._chunks())
        return any(float(distance) > 2.1 * _PAYS_FROM for distance in farthest)

    def _operands(self, part: slice) -> Tensor:
        """Return a range of the rows in float64: unit rows for the cosine."""
        rows = self._float64(part)
        return rows if self._factors is None else rows * self._factors[part, None]

    def _mean(self) -> Tensor:
        """Return the mean of all operands: a common offset costs digits and changes no distance."""
        first = self._operands(slice(0, 1))[0]  # rows that are all equal are moved to 0 exactly
        sums = [(self._operands(part) - first).sum(dim=0) for part in self._chunks()]
        return first + torch.stack(sums).sum(dim=0) / len(self)

    def _distances_from(self, center: Tensor) -> Tensor:
        """Return the distance of each operand from a point."""
        parts = [
            torch.linalg.vector_norm(self._operands(part) - center, dim=1)
            for part in self._chunks()
        ]
        return torch.cat(parts)

    def _scale_for_distances(self, norms: Tensor, from_center: Tensor) -> float:
        """Set the error bounds and half squared norms, and return the factor of all rows."""
        dim = self.rows.shape[1]
        is_cosine = self._factors is not None
        if is_cosine:
            norms = torch.ones_like(norms)

        # scaled by a power of two: nothing overflows, and nothing is rounded
        smallest = _CLOSEST if is_cosine else max(1e-300, 2.0**-60 * float(norms.max()))
        spread = from_center.max().clamp(min=smallest)
        scale: float = 2.0 ** -float(spread.log2().ceil())
        self._half_square = (0.5 * (from_center * scale).square()).float()

        # what both rows lose where they are split into short numbers, or divided by their norms
        lost = 4 * dim * 2.0**-53 * scale * (norms + norms.max())
        product_error = 1.01 * product_error_bound(dim) * (from_center * scale + 1).square()
        self.error = product_error + 3 * lost + lost.square()
        if is_cosine:
            self.error += (9 * dim + 32) * 2.0**-53 * scale**2  # of the exact cosine itself
        return scale

    def __len__(self) -> int:
        """Return the number of rows of all sets."""
        return int(self.starts[-1])

    @property
    def holds_unit_rows(self) -> bool:
        """Whether nearness is the product of unit rows; otherwise it is that of centred ones."""
        return self._half_square is None

    def nearness(
        self, rows: slice | Tensor, columns: slice, buffer: Tensor | None = None
    ) -> Tensor:
        """Return the fast nearness of rows to rows, float32; in ``buffer`` if there is one."""
        shape = len(self.rows[rows]), len(self.rows[columns])
        if buffer is None:
            buffer = torch.empty(shape[0] * shape[1], dtype=torch.float32, device=self.rows.device)
        out = buffer[: shape[0] * shape[1]].view(shape)

        self.write_nearness(rows, columns, out)
        return out

    def write_nearness(self, rows: slice | Tensor, columns: slice, out: Tensor) -> None:
        """Write the fast nearness of rows to rows into ``out``, which may be part of a matrix."""
        first, second = self.rows[rows], self.rows[columns]
        with torch.autocast(first.device.type, enabled=False):
            torch.mm(first, second.T, out=out)
        if self._half_square is not None:
            out.sub_(self._half_square[columns]).sub_(self._half_square[rows, None])

    def cosines(self, nearness: Tensor) -> Tensor:
        """Return the cosines of pairs from their fast nearness, float64; for the cosine alone."""
        return 1 + (nearness.double() - self.top) / self.scale**2

    def distances(self, first: IntArray, second: IntArray) -> Tensor:
        """Return the distances of pairs, ``top`` minus nearness, float32."""
        out = np.empty(len(first), dtype=np.float32)
        step = max(1, _CHUNK // self.rows.shape[1])
        for start in range(0, len(first), step):
            part = slice(start, start + step)
            out[part] = self._pair_distances(first[part], second[part])
        return torch.from_numpy(out).to(self.rows.device)

    def exact(self, first: IntArray, second: IntArray) -> FloatArray:
        """Return the exact similarities of pairs."""
        rows, row_of = _numbered(first, len(self))
        columns, column_of = _numbered(second, len(self))
        # Most pairs of a crowd of near rows: each row is split once, and not once for each pair.
        if len(rows) * len(columns) <= _MOST_UNUSED * len(first):
            return self._exact_of_all(rows, columns, row_of, column_of)

        out = np.empty(len(first))
        step = 8 * rows_per_chunk(self.rows)
        for start in range(0, len(first), step):
            part = slice(start, start + step)
            left = split_rows(self._take(first[part]), self.distance)
            right = split_rows(self._take(second[part]), self.distance)
            values = combine_products(pair_products(left, right), left, right, self.distance)
            out[part] = values.cpu().numpy()
        return out

    def _exact_of_all(
        self, rows: IntArray, columns: IntArray, row_of: IntArray, column_of: IntArray
    ) -> FloatArray:
        """Return the exact similarities of pairs, taken from those of all rows to all columns."""
        out = np.empty(len(row_of))
        for top in range(0, len(rows), _SIDE):
            left = split_rows(self._take(rows[top : top + _SIDE]), self.distance)
            among_rows = np.flatnonzero((row_of >= top) & (row_of < top + _SIDE))
            column_of_pair = column_of[among_rows]

            for start in range(0, len(columns), _SIDE):
                part = slice(start, start + _SIDE)
                right = split_rows(self._take(columns[part]), self.distance)
                values = combine_products(all_products(left, right), left, right, self.distance)

                inside = (column_of_pair >= start) & (column_of_pair < start + _SIDE)
                pairs = among_rows[inside]
                out[pairs] = values.cpu().numpy()[row_of[pairs] - top, column_of[pairs] - start]
        return out

    def groups(self, part: slice) -> IntArray:
        """Number the rows of a range; rows have one number if they are equal, bit for bit."""
        rows = torch.cat(self.sets)[part]  # sets of different dtypes: in the one that holds both
        data = rows.cpu().contiguous().view(torch.uint8).numpy()
        keys = np.ascontiguousarray(data).view(np.dtype((np.void, data.shape[1]))).ravel()
        return np.unique(keys, return_inverse=True)[1].astype(np.int64)

    def _pair_distances(self, first: IntArray, second: IntArray) -> Float32Array:
        if self.rows.device.type == "cpu":
            rows = self.rows.numpy()
            product = np.einsum("nd,nd->n", rows[first], rows[second])
        else:
            left = self.rows[torch.from_numpy(first).to(self.rows.device)]
            right = self.rows[torch.from_numpy(second).to(self.rows.device)]
            product = (left * right).sum(dim=1).cpu().numpy()

        result: Float32Array
        if self._half_square is None:
            result = 1 - product
            return result
        half = self._half_square.cpu().numpy()
        result = np.maximum(half[first] + half[second] - product, np.float32(0))
        return result

    def _chunks(self) -> list[slice]:
        """Return ranges that cover all rows, of a bounded size each."""
        step = max(1, _CHUNK // self.rows.shape[1])
        return [slice(start, min(start + step, len(self))) for start in range(0, len(self), step)]

    def _float64(self, part: slice) -> Tensor:
        """Return a range of the rows in float64, from all sets that it touches."""
        pieces = []
        for start, rows in zip(self.starts[:-1].tolist(), self.sets, strict=True):
            low, high = max(part.start - start, 0), part.stop - start
            if low < len(rows) and high > 0:
                pieces.append(rows[low : min(high, len(rows))].double())
        return torch.cat(pieces)

    def _take(self, index: IntArray) -> Tensor:
        """Return rows by number, in float64."""
        chosen = torch.from_numpy(index).to(self.rows.device)
        if len(self.sets) == 1:
            return self.sets[0][chosen].double()

        shape = len(index), self.rows.shape[1]
        out = torch.empty(shape, dtype=torch.float64, device=self.rows.device)
        for start, rows in zip(self.starts[:-1].tolist(), self.sets, strict=True):
            inside = (chosen >= start) & (chosen < start + len(rows))
            out[inside] = rows[chosen[inside] - start].double()
        return out


def _numbered(index: IntArray, total: int) -> tuple[IntArray, IntArray]:
    """Return the different numbers below ``total``, ascending, and the place of each among them."""
    occurs = np.zeros(total, dtype=bool)
    occurs[index] = True
    place = np.cumsum(occurs) - 1
    return np.flatnonzero(occurs), place[index]

"""Similarities twice: fast, with a proven error bound, and exact to the last bit on every machine.

The *exact* similarity is the definition that ranks follow. It is float64 arithmetic in a fixed order (products, then
halving sums), made of element-wise operations alone, which IEEE 754 defines to the bit: no BLAS, number of threads,
block size or device can change it. The *fast* similarity is one float32 matrix product, never further from the
exact one than ``FastSimilarity.error``.
"""

from typing import Literal

import torch
from torch import Tensor

Similarity = Literal["cosine", "euclidean"]

_CHUNK = 1 << 22  # float64 elements of a temporary: 32 MB
_U32, _U64 = 2.0**-24, 2.0**-53  # unit roundoff
_TINY = 1e-20  # more than all underflow can add up to, for rows of norm 1e-15 to 1e15
# inputs of a float32 matmul may be rounded first, by the global precision that the caller's program has chosen
_INPUT_ROUNDING = {"highest": 0.0, "high": 2.0**-9, "medium": 2.0**-7}


def halving_sum(values: Tensor) -> Tensor:
    """Sum the rows of a matrix in a fixed order: the second half is added to the first until one column is left."""
    while values.shape[1] > 1:
        half = (values.shape[1] + 1) // 2
        folded = values[:, :half].clone()
        folded[:, : values.shape[1] - half] += values[:, half:]
        values = folded
    return values[:, 0]


def row_norms(rows: Tensor) -> Tensor:
    """Euclidean norm of every row, float64, in the fixed order."""
    step = max(1, _CHUNK // rows.shape[1])
    return torch.cat([halving_sum(part.double().square()) for part in torch.split(rows, step)]).sqrt()


def exact_similarity(
    queries: Tensor, gallery: Tensor, query_norms: Tensor, gallery_norms: Tensor, similarity: Similarity
) -> Tensor:
    """Similarity of row i of ``queries`` with row i of ``gallery``, float64, in the fixed order.

    Cosine of a zero row is 0; Euclidean similarity is minus the squared distance.
    """
    first, second = queries.double(), gallery.double()
    if similarity == "euclidean":
        return -halving_sum((first - second).square())
    first = first / torch.where(query_norms > 0, query_norms, 1.0)[:, None]
    second = second / torch.where(gallery_norms > 0, gallery_norms, 1.0)[:, None]
    return halving_sum(first * second)


class FastSimilarity:
    """Blocks of similarities by a float32 matrix product, and a bound on their error; holds the prepared rows.

    For ``"euclidean"`` the value is q.g - |g|^2 / 2 of rows scaled by a power of two: it falls with the distance, and
    the bound is relative to half the squared distance in that scale.

    Args:
        queries: Rows (Q, D).
        gallery: Rows (G, D), G >= 1.
        query_norms: Norms of the queries, from :func:`row_norms`.
        gallery_norms: Norms of the gallery, from :func:`row_norms`.
        similarity: ``"cosine"`` or ``"euclidean"``.
    """

    def __init__(
        self,
        queries: Tensor,
        gallery: Tensor,
        query_norms: Tensor,
        gallery_norms: Tensor,
        similarity: Similarity,
    ) -> None:
        dim = gallery.shape[1]
        growth = (dim + 2) * _U32 / (1 - (dim + 2) * _U32)
        rounding = _input_rounding()
        relative = growth + 4 * _U32 + rounding * (2 + rounding) + 8 * dim * _U64
        self._column_scale: Tensor | None = None
        self._offset: Tensor | None = None
        self.queries = queries
        if similarity == "cosine":
            # |fl(a.x) - q.x / |q|| <= (growth + 2u) |x|, and scaling a column by fl(1 / |x|) adds 2u: derivation in
            # docs/design/evaluator.md
            self.error = 1.01 * relative + _TINY
            self._row_scale = torch.where(query_norms > 0, 1 / query_norms, 0.0)
            inverse = torch.where(gallery_norms > 0, 1 / gallery_norms, 0.0)
            nonzero = gallery_norms[gallery_norms > 0]
            if nonzero.numel() and bool((nonzero.min() < 1e-15) | (nonzero.max() > 1e15)):
                self.gallery = _scaled(gallery, inverse)
            else:
                self.gallery = gallery.float()
                self._column_scale = inverse.float()
        else:
            # rows are scaled to norms of at most 1, by a power of two, so that nothing overflows and nothing rounds
            largest = float(torch.cat([query_norms, gallery_norms]).max())
            scale = 2.0 ** -torch.tensor(max(largest, 1e-300)).double().log2().ceil().item()
            self.error = 1.01 * 2.5 * relative + _TINY
            self._row_scale = torch.full_like(query_norms, scale)
            self.gallery = _scaled(gallery, torch.full_like(gallery_norms, scale))
            self._offset = (-0.5 * (gallery_norms * scale).square()).float()

    def block(self, start: int, stop: int, out: Tensor) -> Tensor:
        """Similarities of queries ``start`` to ``stop`` with the whole gallery, written into ``out``."""
        rows = _scaled(self.queries[start:stop], self._row_scale[start:stop])
        with torch.autocast(rows.device.type, enabled=False):
            torch.mm(rows, self.gallery.T, out=out)
        if self._column_scale is not None:
            out.mul_(self._column_scale)
        if self._offset is not None:
            out.add_(self._offset)
        return out


def _input_rounding() -> float:
    try:
        return _INPUT_ROUNDING[torch.get_float32_matmul_precision()]
    except RuntimeError:  # the program has set the precision of single backends, and torch does not say which
        return _INPUT_ROUNDING["medium"]


def _scaled(rows: Tensor, factors: Tensor) -> Tensor:
    """Rows times factors in float64, rounded to float32, without a float64 copy of the whole."""
    step = max(1, _CHUNK // rows.shape[1])
    scaled = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    for start in range(0, rows.shape[0], step):
        part = slice(start, start + step)
        scaled[part] = rows[part].double() * factors[part, None]
    return scaled

"""Which candidates are right for each query, from lists."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit._checks import check_dense, fail
from clipreid_kit.metrics._engine.embedding_rows import as_array
from clipreid_kit.metrics._engine.identity_matches import Pairs, parts_of

IntArray = npt.NDArray[np.int64]


class Lists:
    """Relevant candidates given as lists: what :class:`Labels` is for identities.

    Args:
        owner: Name of the caller, for error texts.
        relevant: For each query the numbers of its relevant candidates.
        shape: Number of queries and of candidates.
        alone: Leave-one-out: a query stands in no ranking of its own.
    """

    def __init__(
        self,
        owner: str,
        relevant: Sequence[Sequence[int] | Tensor | IntArray],
        shape: tuple[int, int],
        *,
        alone: bool,
    ) -> None:
        if not hasattr(relevant, "__len__"):
            raise fail(
                owner, f"relevant as {shape[0]} lists, one for each query", type(relevant).__name__
            )
        if len(relevant) != shape[0]:
            raise fail(owner, f"relevant as {shape[0]} lists, one for each query", len(relevant))
        rows, own = [], [[i] if alone else [] for i in range(shape[0])]
        for i, members in enumerate(relevant):
            if isinstance(members, Tensor):
                check_dense(owner, "relevant", members)
            array = (
                members.cpu().numpy()
                if isinstance(members, Tensor)
                else as_array(owner, "relevant", members)
            )
            if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
                raise fail(
                    owner,
                    "relevant as lists of candidate numbers",
                    f"{array.dtype} {array.shape} for query {i}",
                )
            if array.size and (array.min() < 0 or array.max() >= shape[1]):
                raise fail(
                    owner,
                    f"relevant candidates from 0 to {shape[1] - 1}",
                    f"{array.min() if array.min() < 0 else array.max()} for query {i}",
                    "They are row numbers of candidate_embeddings, not ids.",
                )
            rows.append(
                np.unique(np.append(array.astype(np.int64), np.array(own[i], dtype=np.int64)))
            )
        self.width = shape[1]
        self.ignored = np.empty(0, dtype=np.int64)
        self._alone = alone
        self._begin = np.cumsum([0, *map(len, rows)])
        self._rows = np.concatenate(rows)

    def parts(self, most: int) -> Iterator[tuple[int, int]]:
        """Ranges of queries, at most so many and with a bounded number of pairs each."""
        yield from parts_of(np.diff(self._begin), most)

    def pairs(self, start: int, stop: int) -> Pairs:
        """All relevant candidates of some queries, which are numbered from 0."""
        begin = self._begin[start : stop + 1]
        pairs = Pairs(
            begin - begin[0],
            self._rows[begin[0] : begin[-1]],
            np.ones(begin[-1] - begin[0], dtype=bool),
        )
        if self._alone:
            pairs.valid = pairs.rows != start + pairs.query
        return pairs

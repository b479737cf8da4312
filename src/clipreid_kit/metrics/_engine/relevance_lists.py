"""Which gallery rows are relevant to a query: a list of row numbers for each."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit._checks import check_dense, fail
from clipreid_kit._similarity.as_array import as_array
from clipreid_kit.metrics._engine.match_pairs import MatchPairs, split_queries

IntArray = npt.NDArray[np.int64]


class RelevanceLists:
    """Relevant gallery rows as lists: the counterpart of :class:`IdentityMatches`.

    Args:
        owner: Name of the caller, for error messages.
        relevant: For each query the numbers of its relevant gallery rows.
        shape: Number of queries and of gallery rows.
        leave_one_out: Queries are the gallery; each is left out of its own ranking.

    Attributes:
        num_gallery_rows: All gallery rows.
        junk_rows: Gallery rows that are left out of every ranking: none.
    """

    def __init__(
        self,
        owner: str,
        relevant: Sequence[Sequence[int] | Tensor | IntArray],
        shape: tuple[int, int],
        *,
        leave_one_out: bool,
    ) -> None:
        num_queries, self.num_gallery_rows = shape
        expected = f"relevant as {num_queries} lists, one for each query"
        if not hasattr(relevant, "__len__"):
            raise fail(owner, expected, type(relevant).__name__)
        if len(relevant) != num_queries:
            raise fail(owner, expected, len(relevant))

        rows = []
        for query, members in enumerate(relevant):
            array = _row_numbers(owner, query, members, self.num_gallery_rows)
            # the query's own row is listed too, and marked as invalid in ``pairs``
            own_row = [query] if leave_one_out else []
            rows.append(np.unique(np.append(array, np.array(own_row, dtype=np.int64))))

        self.junk_rows = np.empty(0, dtype=np.int64)
        self._leave_one_out = leave_one_out
        self._begin = np.cumsum([0, *map(len, rows)])
        self._rows = np.concatenate(rows)

    def query_ranges(
        self, max_queries: int, max_pairs: int | None = None
    ) -> Iterator[tuple[int, int]]:
        """Yield ranges of queries: at most ``max_queries``, and a bounded number of pairs each."""
        yield from split_queries(np.diff(self._begin), max_queries, max_pairs)

    def pairs(self, start: int, stop: int) -> MatchPairs:
        """Return the relevant gallery rows of a range of queries, numbered from 0."""
        begin = self._begin[start : stop + 1]
        rows = self._rows[begin[0] : begin[-1]]
        pairs = MatchPairs(begin - begin[0], rows, np.ones(len(rows), dtype=bool))
        if self._leave_one_out:
            pairs.valid = pairs.rows != start + pairs.query
        return pairs


def _row_numbers(
    owner: str, query: int, members: Sequence[int] | Tensor | IntArray, num_gallery: int
) -> IntArray:
    """Return the list of one query as an array of row numbers within the gallery."""
    if isinstance(members, Tensor):
        check_dense(owner, "relevant", members)
        array = members.cpu().numpy()
    else:
        array = as_array(owner, "relevant", members)

    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        got = f"{array.dtype} of shape {array.shape} for query {query}"
        raise fail(owner, "relevant as lists of gallery row numbers", got)
    if array.size and (array.min() < 0 or array.max() >= num_gallery):
        wrong = array.min() if array.min() < 0 else array.max()
        raise fail(
            owner,
            f"relevant row numbers from 0 to {num_gallery - 1}",
            f"{wrong} for query {query}",
            "They are row numbers of the gallery, not ids.",
        )

    return array.astype(np.int64)

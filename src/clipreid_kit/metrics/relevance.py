"""Which candidates are right for each query: from ids, or from lists."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit._checks import fail

Ids = Sequence[int] | Sequence[str] | Tensor | npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]


class Relevance(NamedTuple):
    """Relevant candidates of query i: ``rows[begin[i]:begin[i + 1]]``, ascending."""

    begin: IntArray
    rows: IntArray

    def of(self, query: int) -> IntArray:
        """Relevant candidates of one query."""
        return self.rows[self.begin[query] : self.begin[query + 1]]


def relevance_by_ids(owner: str, query_ids: Ids, candidate_ids: Ids, shape: tuple[int, int]) -> Relevance:
    """A candidate is relevant if it has the query's id."""
    queries, candidates = shared_codes(owner, ("query_ids", "candidate_ids"), (query_ids, candidate_ids), shape)
    order = np.argsort(candidates, kind="stable")
    ascending = candidates[order]
    first = np.searchsorted(ascending, queries, side="left")
    counts = np.searchsorted(ascending, queries, side="right") - first
    begin = np.concatenate([[0], np.cumsum(counts)])
    places = np.arange(begin[-1]) + np.repeat(first - begin[:-1], counts)
    return Relevance(begin, order[places].astype(np.int64))


def relevance_by_lists(
    owner: str, relevant: Sequence[Sequence[int] | Tensor | IntArray], shape: tuple[int, int]
) -> Relevance:
    """For each query the numbers of its relevant candidates."""
    if len(relevant) != shape[0]:
        raise fail(owner, f"relevant as {shape[0]} lists, one for each query", len(relevant))
    rows = []
    for i, members in enumerate(relevant):
        array = members.cpu().numpy() if isinstance(members, Tensor) else np.asarray(members)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise fail(owner, "relevant as lists of candidate numbers", f"{array.dtype} {array.shape} for query {i}")
        kept = np.unique(array.astype(np.int64))
        if kept.size and (kept[0] < 0 or kept[-1] >= shape[1]):
            raise fail(
                owner,
                f"relevant candidates from 0 to {shape[1] - 1}",
                f"{kept[0] if kept[0] < 0 else kept[-1]} for query {i}",
                "They are row numbers of candidate_embeddings, not ids.",
            )
        rows.append(kept)
    return Relevance(np.cumsum([0, *(len(kept) for kept in rows)]), np.concatenate(rows))


def shared_codes(
    owner: str, names: tuple[str, str], ids: tuple[Ids, Ids], lengths: tuple[int, int]
) -> tuple[IntArray, IntArray]:
    """Number the ids of two sides alike, from 0."""
    first, second = (flat_ids(owner, *side) for side in zip(names, ids, lengths, strict=True))
    if (first.dtype.kind == "U") != (second.dtype.kind == "U"):
        kinds = ["strings" if x.dtype.kind == "U" else "integers" for x in (first, second)]
        raise fail(owner, f"{names[0]} and {names[1]} of one kind", " and ".join(kinds), "Convert one side.")
    if first.dtype.kind != "U" and first.dtype != second.dtype:  # uint64 and int64 would meet in float64
        first, second = first.astype(object), second.astype(object)
    codes = np.unique(np.concatenate([first, second]), return_inverse=True)[1].astype(np.int64)
    return codes[: len(first)], codes[len(first) :]


def flat_ids(owner: str, name: str, values: Ids, length: int) -> npt.NDArray[Any]:
    """Ids as a vector of integers or strings."""
    array = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.dtype.kind == "O" and all(isinstance(v, str) for v in array.flat):
        array = array.astype(str)
    if array.ndim != 1 or array.shape[0] != length:
        raise fail(owner, f"{name} as {length} ids, one for each row", f"shape {array.shape}")
    if array.dtype.kind not in "iuU":
        raise fail(owner, f"{name} as integers or strings", f"{array.dtype}")
    if not isinstance(values, Tensor | np.ndarray) and len({isinstance(v, str) for v in values}) > 1:
        raise fail(owner, f"{name} of one kind", "integers and strings mixed")
    return array

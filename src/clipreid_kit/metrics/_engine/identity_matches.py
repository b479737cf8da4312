"""Who is whose match: identities, cameras and other rules, as numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit._checks import check_dense, fail
from clipreid_kit.metrics._engine.embedding_rows import as_array

Ids = Sequence[int] | Sequence[str] | Tensor | npt.NDArray[Any]
Rule = tuple[str, Ids | None, Ids | None]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
_PAIRS = 1 << 22  # pairs of one identity that are held at once


@dataclass(slots=True)
class Pairs:
    """Queries and the gallery rows of their identity.

    Attributes:
        begin: (Q + 1,): the rows of query i are ``rows[begin[i]:begin[i + 1]]``.
        rows: Gallery rows.
        valid: Whether the row counts as a match; one that does not is left out for this query.
    """

    begin: IntArray
    rows: IntArray
    valid: BoolArray

    @property
    def query(self) -> IntArray:
        """The query of every pair."""
        return np.repeat(np.arange(len(self.begin) - 1), np.diff(self.begin))


class Labels:
    """Identities of both sides, and the rules that leave matches out.

    Args:
        codes: Identity of every query and of every gallery row, as numbers >= 0.
        columns: For each rule, the values of both sides as numbers.
        ignored: Gallery rows that stand in no ranking.
        rules: What the rules are called.
        query_ids: Identity of every query as it was given.
    """

    def __init__(
        self,
        codes: tuple[IntArray, IntArray],
        columns: Sequence[tuple[IntArray, IntArray]],
        ignored: BoolArray,
        rules: Sequence[str],
        query_ids: npt.NDArray[Any],
    ) -> None:
        self.query_ids = query_ids
        self.queries, of_gallery = codes
        self.columns = columns
        self.rules = rules
        self.width = len(ignored)
        self.num_gallery = int((~ignored).sum())
        self.num_cameras: int | None = None  # if the rules know cameras
        self.num_identities = len(np.unique(of_gallery))
        self.ignored = np.flatnonzero(ignored)
        of_gallery = np.where(ignored, -1, of_gallery)
        self.order = np.argsort(of_gallery, kind="stable")
        self._ascending = of_gallery[self.order]

    def span(self, codes: IntArray) -> tuple[IntArray, IntArray]:
        """Where the gallery rows of these identities begin and end in ``order``."""
        return self._ascending.searchsorted(codes, "left"), self._ascending.searchsorted(
            codes, "right"
        )

    def parts(self, most: int) -> Iterator[tuple[int, int]]:
        """Ranges of queries, at most so many and with a bounded number of pairs each."""
        first, last = self.span(self.queries)
        yield from parts_of(last - first, most)

    def pairs(self, start: int, stop: int) -> Pairs:
        """All pairs of one identity, for some queries, numbered from 0."""
        first, last = self.span(self.queries[start:stop])
        begin = np.concatenate([[0], np.cumsum(last - first)])
        query = np.repeat(np.arange(stop - start), last - first)
        rows = self.order[np.arange(begin[-1]) + (first - begin[:-1])[query]]
        valid = np.ones(len(rows), dtype=bool)
        for of_query, of_gallery in self.columns:
            valid &= of_query[start + query] != of_gallery[rows]
        return Pairs(begin, rows, valid)


def parts_of(counts: IntArray, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of queries with such numbers of pairs: at most so many queries, and a bounded number of pairs each."""
    start = 0
    ahead = np.concatenate([[0], np.cumsum(counts)])
    while start < len(counts):
        stop = int(ahead.searchsorted(ahead[start] + _PAIRS, side="right")) - 1
        stop = min(max(stop, start + 1), start + most, len(counts))
        yield start, stop
        start = stop


def read_labels(
    owner: str,
    shape: tuple[int, int],
    ids: tuple[Ids, Ids | None],
    rules: Sequence[Rule],
    junk_ids: Sequence[int] | Sequence[str] = (),
    own: tuple[IntArray, IntArray] | None = None,
    sides: tuple[str, str] = ("query", "gallery"),
) -> Labels:
    """Check identities and rules, and number them alike on both sides.

    Args:
        owner: Name of the caller, for error texts.
        shape: Numbers of queries and of gallery rows.
        ids: Identities of both sides; ``None`` for the gallery is leave-one-out.
        rules: Name, values of the queries, values of the gallery.
        junk_ids: Identities that stand in no ranking.
        own: Numbers of the rows in leave-one-out, if they are not 0, 1, ... on both sides.
        sides: What the caller calls both sides.
    """
    leave_one_out = ids[1] is None
    codes = read_ids(owner, (ids[0], ids[0] if ids[1] is None else ids[1]), shape, sides)
    columns: list[tuple[IntArray, IntArray]] = []
    names: list[str] = []
    for name, of_query, other in rules:
        of_gallery = of_query if leave_one_out and other is None else other
        if of_query is None and of_gallery is None:
            continue
        if of_query is None or of_gallery is None:
            got = f"query_{name} only" if of_gallery is None else f"gallery_{name} only"
            remedy = "Give both for the rule, or leave both out."
            raise fail(owner, f"{name} of both sides or of neither", got, remedy)
        columns.append(read_ids(owner, (of_query, of_gallery), shape, name=name))
        names.append("camera rule" if name == "cameras" else "rules of exclude")
    if leave_one_out and own is None:
        own = np.arange(shape[0]), np.arange(shape[1])
    if own is not None:
        columns.append(own)
    ignored = np.zeros(shape[1], dtype=bool)
    check_junk(owner, junk_ids)
    if len(junk_ids):
        known = ids[0] if ids[1] is None else ids[1]
        numbers, of_gallery_ = read_ids(
            owner, (junk_ids, known), (len(junk_ids), shape[1]), ("junk", "gallery")
        )
        ignored = np.isin(of_gallery_, numbers)
    labels = Labels(
        codes, columns, ignored, names, flat(owner, f"{sides[0]}_ids", ids[0], shape[0])
    )
    if names[:1] == ["camera rule"]:
        labels.num_cameras = len(np.unique(np.concatenate(columns[0])))
    return labels


def check_junk(owner: str, junk_ids: object) -> None:
    """Require a list of identities, which one identity alone is not."""
    if isinstance(junk_ids, str) or not isinstance(junk_ids, Sequence | np.ndarray | Tensor):
        raise fail(owner, "junk_ids as a list of ids", repr(junk_ids))


def check_exclude(owner: str, exclude: object) -> None:
    """Require a list of pairs, which one pair alone is not."""
    if not isinstance(exclude, tuple | list) or any(
        not isinstance(x, tuple | list) or len(x) != 2 for x in exclude
    ):
        raise fail(
            owner,
            "exclude as a list of pairs (values of queries, values of gallery)",
            "something else",
        )


def flat(owner: str, name: str, values: Ids, length: int) -> npt.NDArray[Any]:
    """Ids as an array of integers or of strings, one for each row."""
    if isinstance(values, Tensor):
        check_dense(owner, name, values)
    array = (
        values.detach().cpu().numpy()
        if isinstance(values, Tensor)
        else as_array(owner, name, values)
    )
    if array.dtype.kind == "O" and all(isinstance(v, str) for v in array.flat):
        array = array.astype(str)
    if array.ndim != 1 or array.shape[0] != length:
        raise fail(owner, f"{name} as {length} ids, one for each row", f"shape {array.shape}")
    if array.dtype.kind not in "iuU" and length:
        remedy = "Give each identity and camera an integer (of 64 bits at most) or a name; a missing one is no id."
        raise fail(owner, f"{name} as integers or strings", f"{array.dtype}", remedy)
    if (
        not isinstance(values, Tensor | np.ndarray)
        and len({isinstance(v, str) for v in values}) > 1
    ):
        raise fail(owner, f"{name} of one kind", "integers and strings mixed")
    return array


def read_ids(
    owner: str,
    ids: tuple[Ids, Ids],
    lengths: tuple[int, int],
    sides: tuple[str, str] = ("query", "gallery"),
    name: str = "ids",
) -> tuple[IntArray, IntArray]:
    """Check the ids of two sides, and number them alike, from 0."""
    names = [f"{side}_{name}" for side in sides]
    first, second = (flat(owner, *side) for side in zip(names, ids, lengths, strict=True))
    kinds = ["strings" if x.dtype.kind == "U" else "integers" for x in (first, second)]
    if kinds[0] != kinds[1] and len(first) and len(second):
        raise fail(
            owner,
            f"{names[0]} and {names[1]} of one kind",
            f"{kinds[0]} and {kinds[1]}",
            "An identity '7' is not the identity 7: convert one side.",
        )
    if kinds[0] == kinds[1] == "integers" and np.result_type(first, second).kind == "f":
        # uint64 and int64 would meet in float64, and lose digits
        first, second = first.astype(object), second.astype(object)
    codes = (
        np.unique(np.concatenate([first, second]), return_inverse=True)[1]
        .astype(np.int64)
        .reshape(-1)
    )
    return codes[: len(first)], codes[len(first) :]

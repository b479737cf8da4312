"""Which gallery rows are matches of a query: equal identities, minus cameras and other rules."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clipreid_kit._checks import fail
from clipreid_kit.metrics._engine.id_columns import Ids, check_junk_ids, encode_ids, id_array
from clipreid_kit.metrics._engine.match_pairs import MatchPairs, split_queries

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.unsignedinteger[Any]]

# Queries from which, and share of them below which, the cameras of both sides hardly meet.
_ENOUGH_QUERIES = 10
_FEW_QUERIES = 0.1


class Rule(NamedTuple):
    """A column that leaves a gallery row of the query's identity out where both values are equal.

    Attributes:
        name: ``"cameras"`` or ``"values of exclude"``; arguments are called ``query_{name}``.
        query_values: Value of every query; ``None`` (on both sides) for no rule.
        gallery_values: Value of every gallery row; ``None`` in leave-one-out, where it is the
            query's.
    """

    name: str
    query_values: Ids | None
    gallery_values: Ids | None


class IdentityMatches:
    """Identities of both sides, and the rules that leave matches out.

    Args:
        codes: Identity of every query and of every gallery row, as numbers >= 0.
        columns: For each rule, the values of both sides as numbers.
        is_junk: Whether a gallery row is left out of every ranking.
        rules: Names of the rules, for error messages.
        query_ids: Identity of every query as it was passed.

    Attributes:
        num_gallery_rows: All gallery rows.
        num_gallery: Gallery rows without junk.
        num_cameras: Number of different cameras, if the camera rule is among the rules.
        meets_camera: Whether the gallery has the camera of each query, if the camera rule is among
            the rules.
        num_identities: Number of different identities in the gallery.
        junk_rows: Gallery rows that are left out of every ranking.
        rows_by_identity: Gallery rows, sorted by identity.
    """

    def __init__(
        self,
        codes: tuple[IntArray, IntArray],
        columns: Sequence[tuple[IntArray, IntArray]],
        is_junk: BoolArray,
        rules: Sequence[str],
        query_ids: npt.NDArray[Any],
    ) -> None:
        self.query_codes, gallery_codes = codes
        self.query_ids = query_ids
        self.rules = rules

        self.num_gallery_rows = len(is_junk)
        self.num_gallery = int((~is_junk).sum())
        self.num_identities = int(np.count_nonzero(np.bincount(gallery_codes)))
        self.num_cameras: int | None = None
        self.meets_camera: BoolArray | None = None
        self.junk_rows = np.flatnonzero(is_junk)

        gallery_codes = np.where(is_junk, -1, gallery_codes)
        self.rows_by_identity = np.argsort(gallery_codes, kind="stable")
        self._sorted_codes = gallery_codes[self.rows_by_identity]
        self._columns = [self._sort_column(*values) for values in columns]

    def _sort_column(self, queries: IntArray, gallery: IntArray) -> tuple[Numbers, Numbers]:
        """Return the values of both sides in few bytes, those of the gallery sorted by identity."""
        largest = max(queries.max(initial=0), gallery.max(initial=0))
        dtype = np.min_scalar_type(largest)
        return queries.astype(dtype), gallery.astype(dtype)[self.rows_by_identity]

    def span(self, codes: IntArray) -> tuple[IntArray, IntArray]:
        """Return where the rows of these identities begin and end in ``rows_by_identity``."""
        first = self._sorted_codes.searchsorted(codes, "left")
        last = self._sorted_codes.searchsorted(codes, "right")
        return first, last

    def query_ranges(
        self, max_queries: int, max_pairs: int | None = None
    ) -> Iterator[tuple[int, int]]:
        """Yield ranges of queries: at most ``max_queries``, and a bounded number of pairs each."""
        first, last = self.span(self.query_codes)
        yield from split_queries(last - first, max_queries, max_pairs)

    def pairs(self, start: int, stop: int) -> MatchPairs:
        """Return all pairs of one identity for the queries of a range, numbered from 0."""
        first, last = self.span(self.query_codes[start:stop])
        num_rows = last - first
        spans = [slice(*span) for span in zip(first.tolist(), last.tolist(), strict=True)]
        rows = np.concatenate([self.rows_by_identity[span] for span in spans])

        valid = np.ones(len(rows), dtype=bool)
        for query_values, gallery_values in self._columns:
            of_gallery = np.concatenate([gallery_values[span] for span in spans])
            valid &= np.repeat(query_values[start:stop], num_rows) != of_gallery

        return MatchPairs(np.concatenate([[0], np.cumsum(num_rows)]), rows, valid)


def read_identity_matches(
    owner: str,
    shape: tuple[int, int],
    ids: tuple[Ids, Ids | None],
    rules: Sequence[Rule],
    junk_ids: Sequence[int] | Sequence[str] = (),
    row_numbers: tuple[IntArray, IntArray] | None = None,
    *,
    is_whole: bool = True,
) -> IdentityMatches:
    """Check identities and rules, and number them alike on both sides.

    Args:
        owner: Name of the caller, for error messages.
        shape: Number of queries and of gallery rows.
        ids: Identities of both sides; ``None`` for the gallery is leave-one-out.
        rules: Columns that leave matches out.
        junk_ids: Identities that are left out of every ranking.
        row_numbers: Numbers of the rows in leave-one-out; ``None`` for 0, 1, ... on both sides.
        is_whole: Whether this is the whole gallery, so that the cameras of both sides should meet.
    """
    query_ids, gallery_ids = ids
    leave_one_out = gallery_ids is None
    if gallery_ids is None:
        gallery_ids = query_ids

    codes = encode_ids(owner, (query_ids, gallery_ids), shape)
    columns, rule_names = _read_rules(owner, shape, rules, leave_one_out=leave_one_out)
    num_cameras = None
    meets_camera = None
    if rule_names[:1] == ["camera rule"]:
        num_cameras = len(np.unique(np.concatenate(columns[0])))
        meets_camera = np.isin(*columns[0])
        if is_whole:
            warn_if_cameras_differ(owner, meets_camera)

    # a query is no match of itself
    if leave_one_out and row_numbers is None:
        row_numbers = np.arange(shape[0]), np.arange(shape[1])
    if row_numbers is not None:
        columns.append(row_numbers)

    is_junk = _read_junk(owner, junk_ids, gallery_ids, shape[1])
    matches = IdentityMatches(
        codes,
        columns,
        is_junk,
        rule_names,
        # A copy: the result keeps it, and the caller may reuse the buffer.
        id_array(owner, "query_ids", query_ids, shape[0]).copy(),
    )
    matches.num_cameras = num_cameras
    matches.meets_camera = meets_camera
    return matches


def warn_if_cameras_differ(owner: str, meets_camera: BoolArray) -> None:
    """Warn if hardly any query has a camera that the gallery has, too.

    Then the camera rule leaves nothing out, as where both sides were numbered apart.
    """
    if len(meets_camera) < _ENOUGH_QUERIES or meets_camera.mean() >= _FEW_QUERIES:
        return

    warnings.warn(
        f"{owner}: {int(meets_camera.sum())} of {len(meets_camera)} queries have a camera that "
        "occurs in the gallery, so the camera rule leaves out next to nothing. Number the cameras "
        "of both sides alike; omit them if the sides have different cameras on purpose.",
        stacklevel=2,
    )


def check_exclude(owner: str, exclude: object) -> None:
    """Require a list of pairs; a single pair is not one."""
    if not isinstance(exclude, tuple | list) or not all(map(_is_pair, exclude)):
        raise ValueError(
            f"{owner}: exclude is a list of pairs (values of the queries, values of the gallery); "
            "put a single pair into a list."
        )


def _is_pair(item: object) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2


def _read_rules(
    owner: str, shape: tuple[int, int], rules: Sequence[Rule], *, leave_one_out: bool
) -> tuple[list[tuple[IntArray, IntArray]], list[str]]:
    """Return the columns of the rules as numbers, and what the rules are called in messages."""
    columns: list[tuple[IntArray, IntArray]] = []
    names: list[str] = []
    for name, query_values, other_values in rules:
        is_own = leave_one_out and other_values is None
        gallery_values = query_values if is_own else other_values
        if query_values is None and gallery_values is None:
            continue
        if query_values is None or gallery_values is None:
            got = f"query_{name} only" if gallery_values is None else f"gallery_{name} only"
            raise fail(owner, f"{name} of both sides or of neither", got)

        columns.append(encode_ids(owner, (query_values, gallery_values), shape, column=name))
        names.append("camera rule" if name == "cameras" else "rules of exclude")

    return columns, names


def _read_junk(
    owner: str,
    junk_ids: Sequence[int] | Sequence[str],
    gallery_ids: Ids,
    num_gallery: int,
) -> BoolArray:
    """Return whether the identity of a gallery row is junk."""
    check_junk_ids(owner, junk_ids)
    if len(junk_ids) == 0:
        return np.zeros(num_gallery, dtype=bool)

    junk_codes, gallery_codes = encode_ids(
        owner, (junk_ids, gallery_ids), (len(junk_ids), num_gallery), ("junk", "gallery")
    )
    return np.isin(gallery_codes, junk_codes)

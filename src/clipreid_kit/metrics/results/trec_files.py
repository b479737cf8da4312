"""Run and qrels files of TREC, which ranx, ir-measures and trec_eval read."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt

from clipreid_kit._checks import shown
from clipreid_kit._files import replaced_file
from clipreid_kit._read_files import PathLike, read_text

Value = TypeVar("Value", int, float)

# Columns are separated by white space, and readers differ in what they count as such.
_ESCAPED = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ufeff\ud800-\udfff%]")


class RankedList(NamedTuple):
    """The gallery items found for a query.

    Attributes:
        query: Name of the query.
        names: Names of the gallery items, nearest first.
        similarities: Similarity of each item, never increasing; ``None`` if unknown.
    """

    query: str
    names: Sequence[str]
    similarities: Sequence[float] | npt.NDArray[np.float64] | None = None


def write_trec_run(
    path: PathLike, lists: Iterable[RankedList], *, tag: str = "clipreid_kit"
) -> None:
    """Write ranked lists as a run file of TREC: ``query Q0 item rank score tag``.

    Lists are written as they come, so an iterator needs the memory of one list only.

    Programs that read the file sort by score, in float32, and break ties by name. To keep the order
    of the list, each score is the similarity rounded to float32, or the next smaller number where
    that is not below the one before it. Without similarities, scores count down to 1.

    White space, control characters and ``%`` in names are written as ``%20`` and the like, since
    white space separates the columns; :func:`read_trec_run` decodes them.

    Args:
        path: The file; written whole or not at all.
        lists: The list of each query.
        tag: Name of the run.

    Raises:
        ValueError: If a query occurs twice, an item occurs twice in a list, a name is empty, or
            similarities increase, are infinite or NaN, or are not as many as the names.
        OSError: If the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "run.txt")
        ...     write_trec_run(path, [RankedList("q 1", ["b", "a"], [0.5, 0.5])])
        ...     print(path.read_text().splitlines()[0])
        ...     list(read_trec_run(path)["q 1"])  # b stays before a
        q%201 Q0 b 1 0.5 clipreid_kit
        ['b', 'a']
    """
    owner = "write_trec_run"
    escaped_tag = _escape(owner, tag)
    _write_lines(path, _run_lines(owner, lists, escaped_tag))


def write_trec_qrels(path: PathLike, relevant: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Write the matches of each query as a qrels file of TREC: ``query 0 item 1``.

    Names are escaped as by :func:`write_trec_run`. A query without matches has no line, and means
    over the file's queries leave it out, as ours do.

    Args:
        path: The file; written whole or not at all.
        relevant: Name of each query, with the names of its matches.

    Raises:
        ValueError: If a query occurs twice, an item occurs twice for a query, or a name is empty.
        OSError: If the file cannot be written.
    """
    _write_lines(path, _qrels_lines("write_trec_qrels", relevant))


def read_trec_run(path: PathLike) -> dict[str, dict[str, float]]:
    """Read a run file of TREC: the score of each item by query, best first.

    As in trec_eval, items are ordered by score, ties by name in descending order, and the column of
    ranks is not read. ``%20`` and the like in names are decoded.

    Returns:
        Scores by query and item, as ``ranx.Run`` takes them; empty for an empty file.

    Raises:
        ValueError: If a line is not of six columns, has a score that is no finite number, or names
            an item again.
        OSError: If the file cannot be read.
    """
    run: dict[str, dict[str, float]] = {}
    for place, columns in _columns(path, 6):
        query, _, item, _, score, _ = columns
        _add(place, run, query, item, _number(place, "score", score))

    ordered = {}
    for query, scores in run.items():
        items = sorted(scores, key=lambda item: (scores[item], item), reverse=True)
        ordered[query] = {item: scores[item] for item in items}
    return ordered


def read_trec_qrels(path: PathLike) -> dict[str, dict[str, int]]:
    """Read a qrels file of TREC: the relevance of each item by query.

    Returns:
        Relevance by query and item, as ``ranx.Qrels`` takes it; empty for an empty file.

    Raises:
        ValueError: If a line is not of four columns, has a relevance that is no whole number, or
            names an item again.
        OSError: If the file cannot be read.
    """
    qrels: dict[str, dict[str, int]] = {}
    for place, columns in _columns(path, 4):
        query, _, item, relevance = columns
        number = _number(place, "relevance", relevance)
        if number != int(number):
            raise ValueError(f"{place}: the relevance {shown(relevance)} is not a whole number.")
        _add(place, qrels, query, item, int(number))
    return qrels


def _run_lines(owner: str, lists: Iterable[RankedList], tag: str) -> Iterator[str]:
    seen: set[str] = set()
    for ranked in lists:
        query = _new_name(owner, "query", ranked.query, seen)
        scores = _scores(owner, ranked)

        items: set[str] = set()
        for rank, (name, score) in enumerate(zip(ranked.names, scores, strict=True), start=1):
            item = _new_name(owner, f"item of query {shown(ranked.query)}:", name, items)
            yield f"{query} Q0 {item} {rank} {score:.9g} {tag}\n"


def _qrels_lines(owner: str, relevant: Iterable[tuple[str, Sequence[str]]]) -> Iterator[str]:
    seen: set[str] = set()
    for query_name, names in relevant:
        query = _new_name(owner, "query", query_name, seen)

        items: set[str] = set()
        for name in names:
            item = _new_name(owner, f"item of query {shown(query_name)}:", name, items)
            yield f"{query} 0 {item} 1\n"


def _scores(owner: str, ranked: RankedList) -> list[float]:
    """Return strictly decreasing float32 scores."""
    count = len(ranked.names)
    if ranked.similarities is None:
        return [float(count - position) for position in range(count)]

    similarities = np.asarray(ranked.similarities, dtype=np.float64)
    who = f"{owner}: similarities of query {shown(ranked.query)}"
    if similarities.shape != (count,):
        raise ValueError(
            f"{who} are of shape {similarities.shape}, for {count} names; pass one for each name."
        )
    if not np.isfinite(similarities).all():
        raise ValueError(f"{who} hold NaN or infinity; check the embeddings they come from.")
    if (np.diff(similarities) > 0).any():
        raise ValueError(f"{who} increase; sort each list, nearest first.")

    largest = float(np.finfo(np.float32).max)
    rounded = similarities.clip(-largest, largest).astype(np.float32)

    # In float32, numbers are in the order of their bits, so the next smaller one is one less.
    bits = rounded.view(np.int32).astype(np.int64)
    order = np.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))
    steps = np.arange(count)
    order = np.minimum.accumulate(order + steps) - steps

    lowest = -int(np.array([largest], dtype=np.float32).view(np.int32)[0])
    if count and order[-1] < lowest:  # nothing is left below the smallest number
        return [float(count - position) for position in range(count)]

    bits = np.where(order >= 0, order, -order | 0x80000000).astype(np.uint32)
    scores: list[float] = bits.view(np.float32).tolist()
    return scores


def _new_name(owner: str, what: str, name: str, seen: set[str]) -> str:
    """Escape a name, which must not have been seen before."""
    if name in seen:
        raise ValueError(f"{owner}: {what} {shown(name)} occurs twice; give each its own name.")
    seen.add(name)
    return _escape(owner, name)


def _escape(owner: str, name: str) -> str:
    if not name:
        raise ValueError(f"{owner}: a name is empty; every query and item needs one.")
    return _ESCAPED.sub(lambda found: quote(found[0], safe="", errors="surrogatepass"), name)


def _write_lines(path: PathLike, lines: Iterable[str]) -> None:
    with (
        replaced_file(Path(path), flush=False) as temporary,
        temporary.open("x", encoding="utf-8", newline="\n") as stream,
    ):
        stream.writelines(lines)


def _columns(path: PathLike, count: int) -> Iterator[tuple[str, list[str]]]:
    """Yield the columns of each line, with its place; empty lines are skipped."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        columns = line.split()
        if not columns:
            continue

        place = f"{path}, line {number}"
        if len(columns) != count:
            raise ValueError(
                f"{place}: there are {len(columns)} columns, and {count} are needed. "
                "Correct the line."
            )
        yield place, [unquote(column, errors="surrogatepass") for column in columns]


def _number(place: str, what: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{place}: the {what} {shown(text)} is not a finite number.")
    return number


def _add(
    place: str, table: dict[str, dict[str, Value]], query: str, item: str, value: Value
) -> None:
    """Add a value, unless the item is there."""
    row = table.setdefault(query, {})
    if item in row:
        raise ValueError(
            f"{place}: query {shown(query)} has the item {shown(item)} twice. "
            "Remove one of the lines."
        )
    row[item] = value

"""The nearest rows by exact similarity, certified by the bounds of the passes before.

The nearest rows of a query are those of the largest exact similarity, the lower row first among
equals. A fast pass gives each row a range that its exact similarity is certainly in. Rows whose
range ends below a similarity that enough others reach are out; the rest are scored exactly. So the
result does not depend on the pass, the size of blocks, the number of threads or the other queries.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.code_product import largest_number
from clipreid_kit._similarity.float32_pass import inverse_norms
from clipreid_kit._threads import default_threads, own_threads
from clipreid_kit.retrieval.exact.block_passes import (
    BlockScan,
    product_candidates,
    scan_block,
    unknown_block,
)
from clipreid_kit.retrieval.exact.candidates import (
    Candidates,
    exact_pairs,
    join_candidates,
    nearest_first,
    refine,
    score_exactly,
)
from clipreid_kit.retrieval.exact.code_grid import encode_query
from clipreid_kit.retrieval.exact.code_lists import code_lists
from clipreid_kit.retrieval.exact.code_scan import scan_is_exact
from clipreid_kit.retrieval.exact.device_rows import DeviceRows
from clipreid_kit.retrieval.exact.gallery_blocks import GalleryRows
from clipreid_kit.retrieval.exact.product_lists import ProductLists, product_lists
from clipreid_kit.retrieval.exact.row_source import RowSource

Way = Literal["codes", "float32", "float64"]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_BLOCK = 1 << 24  # elements of a block whose codes are scanned: 16 MB
_SPARE = 22  # length of the lists of many queries beyond what is asked for
_SPARE_CODES, _PER_WANTED = 224, 16  # the same for lists by codes, which are less precise
_FEW = 3  # queries up to which codes are scanned: they cost less to read, and more to multiply
_MANY_CANDIDATES = 2  # times as many as are wanted: they are scored in float64 first
_MANY_WANTED = 256  # up to which lists by codes, many times as long, stay short
_MANY_QUERIES = 256  # that are searched together
_SMALL = 1 << 20  # elements of a gallery that a product answers few queries from fastest
_SMALL_FOR_MANY = 1 << 23  # the same for many queries: lists by codes have to be long
_MORE_PRECISE: dict[Way, Way] = {"codes": "float32", "float32": "float64"}


def nearest_rows(
    queries: Tensor,
    sources: Sequence[RowSource],
    count: int,
    allowed: BoolArray | None = None,
    on_device: DeviceRows | None = None,
) -> tuple[IntArray, FloatArray]:
    """Return the nearest rows of each query, and their exact cosine similarities.

    Args:
        queries: (Q, D), finite.
        sources: Where the rows are; they are numbered through in this order.
        count: How many rows are wanted; fewer are returned if fewer may be found.
        allowed: For each row, whether it may be found; ``None`` for all of them.
        on_device: Where the fast pass runs; ``None`` for the CPU, where few queries are compared
            with codes first.

    Returns:
        Rows (Q, K) int64, nearest first, the lower row first among equals; and their similarities,
        float64.
    """
    gallery = GalleryRows(sources, allowed)
    dim = queries.shape[1]
    kept = min(count, gallery.num_allowed)
    rows = np.empty((len(queries), kept), dtype=np.int64)
    similarities = np.empty((len(queries), kept))
    if kept == 0:
        return rows, similarities

    is_scanned = on_device is None and len(queries) <= _FEW and _scans_pay(gallery, dim)
    way: Way = "float32"
    if not is_scanned and on_device is None and _products_pay(gallery, dim, kept):
        way = "codes"

    for start in range(0, len(queries), _MANY_QUERIES):
        part = slice(start, start + _MANY_QUERIES)
        if is_scanned:
            found = _search_one_by_one(queries[part], gallery, kept)
        else:
            found = _search_together(queries[part], gallery, kept, way, on_device)
        rows[part], similarities[part] = found
    return rows, similarities


def _scans_pay(gallery: GalleryRows, dim: int) -> bool:
    """Return whether a scan of the codes answers few queries faster than a product."""
    return gallery.num_rows * dim > _SMALL and scan_is_exact(dim)


def _products_pay(gallery: GalleryRows, dim: int, count: int) -> bool:
    """Return whether products with the codes answer many queries faster than float32.

    Codes cannot tell nearly equal rows apart; float32 can, from their centre. The installed product
    is tried last: its first call takes longer than a search.
    """
    is_small = gallery.num_rows * dim <= _SMALL_FOR_MANY
    if is_small or gallery.is_centred or count > _MANY_WANTED:
        return False
    return largest_number(dim) > 0


def _search_one_by_one(
    queries: Tensor, gallery: GalleryRows, count: int
) -> tuple[IntArray, FloatArray]:
    """Search each query by the codes."""
    found = [_search_one(query, gallery, count) for query in queries]
    rows = [nearest.rows for nearest in found]
    similarities = [nearest.low for nearest in found]
    return np.stack(rows), np.stack(similarities)


def _search_together(
    queries: Tensor,
    gallery: GalleryRows,
    count: int,
    way: Way,
    on_device: DeviceRows | None = None,
) -> tuple[IntArray, FloatArray]:
    """Search queries by products; those that are left open again, more precisely."""
    norms = torch.linalg.vector_norm(queries.double(), dim=1)
    if way == "codes":
        kept = min(_PER_WANTED * count + _SPARE_CODES, gallery.num_allowed)
        lists = code_lists(queries, norms, gallery, count, kept)
    else:
        kept = min(count + _SPARE, gallery.num_allowed)
        lists = product_lists(queries, norms, gallery, kept, getattr(torch, way), on_device)
    rows, scores = _score_lists(queries, lists, gallery, count)

    is_open = np.flatnonzero(_is_open(lists, count))
    is_settled = np.zeros(len(is_open), dtype=bool)
    if len(is_open):
        settled = _settle(queries, lists, is_open, gallery, count)
        rows[is_open], scores[is_open], is_settled = settled

    unsettled = is_open[~is_settled]
    if len(unsettled):
        left = queries[torch.from_numpy(unsettled)]
        if len(unsettled) <= _FEW or way == "float64":
            found = _search_one_by_one(left, gallery, count)
        else:
            found = _search_together(left, gallery, count, _MORE_PRECISE[way], on_device)
        rows[unsettled], scores[unsettled] = found
    return rows, scores


def _score_lists(
    queries: Tensor, lists: ProductLists, gallery: GalleryRows, count: int
) -> tuple[IntArray, FloatArray]:
    """Return the first rows of all lists in the order of their exact similarities."""
    rows = lists.rows[:, :count]
    query = np.repeat(np.arange(len(queries)), count)
    scores = exact_pairs(queries, query, gallery.take(rows.ravel())).reshape(rows.shape)

    order = np.lexsort((rows, -scores))
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _is_open(lists: ProductLists, count: int) -> BoolArray:
    """Return for each query whether the fast similarities do not tell which rows are nearest."""
    last_wanted, rest = lists.values[:, count - 1], lists.values[:, count:]
    next_high = rest[:, 0] + lists.error if rest.shape[1] else lists.floor
    is_open: BoolArray = last_wanted - lists.error <= np.maximum(next_high, lists.floor)
    return is_open


def _settle(
    queries: Tensor, lists: ProductLists, numbers: IntArray, gallery: GalleryRows, count: int
) -> tuple[IntArray, FloatArray, BoolArray]:
    """Score the lists of some queries exactly, as far as their rows may be among the nearest.

    Returns:
        Their nearest rows (N, K), exact similarities (N, K), and for each query whether these are
        certain: a list may be too short.
    """
    rows, values, error = lists.rows[numbers], lists.values[numbers], lists.error
    last_wanted, floor = values[:, count - 1, None], lists.floor[numbers]
    may_be_near = values >= last_wanted - 2 * error
    # elsewhere exact scores are unlikely to tell that no row beyond the list is as near
    may_be_near &= floor[:, None] <= last_wanted

    exact = np.full(values.shape, -np.inf)
    number, place = np.nonzero(may_be_near)
    vectors = gallery.take(rows[number, place])
    exact[number, place] = exact_pairs(queries, numbers[number], vectors)

    order = np.lexsort((rows, -exact))[:, :count]
    scores = np.take_along_axis(exact, order, axis=1)
    is_certain = floor < scores[:, -1]
    return np.take_along_axis(rows, order, axis=1), scores, is_certain


def _search_one(query: Tensor, gallery: GalleryRows, count: int) -> Candidates:
    """Return the nearest rows of one query, exactly scored."""
    norm = torch.linalg.vector_norm(query.double())
    if norm == 0:
        return _nearest_of_zero(gallery, count)

    unit = query.double() * inverse_norms(norm[None])
    scans = _scan_all(unit, gallery, count)
    candidates = _close_blocks(query, scans, gallery, count)

    if len(candidates.rows) > _MANY_CANDIDATES * count:
        candidates = refine(candidates, query, gallery.take(candidates.rows))
        candidates = candidates.at_least(candidates.threshold(count))
    scored = score_exactly(candidates, query, gallery.take(candidates.rows))
    return nearest_first(scored, count)


def _nearest_of_zero(gallery: GalleryRows, count: int) -> Candidates:
    """Return the first rows: the similarity of a zero query with everything is 0."""
    allowed = gallery.allowed
    rows = np.arange(count) if allowed is None else np.flatnonzero(allowed)[:count]
    return Candidates(rows, np.zeros(count), np.zeros(count))


def _scan_all(unit: Tensor, gallery: GalleryRows, count: int) -> list[BlockScan]:
    """Scan the codes of all blocks, on all threads."""
    dim = len(unit)
    blocks = gallery.blocks(max(1, _BLOCK // dim))
    if not scan_is_exact(dim):
        return [unknown_block(block) for block in blocks]

    coded = {id(source): encode_query(unit, source.grid) for source in gallery.sources}
    with own_threads(min(default_threads(), len(blocks))) as threads:
        return list(
            threads.map(lambda block: scan_block(block, coded[id(block.source)], count), blocks)
        )


def _close_blocks(
    query: Tensor, scans: list[BlockScan], gallery: GalleryRows, count: int
) -> Candidates:
    """Return all rows that may be among the nearest.

    A block whose scan has left out rows that may be among them is multiplied in float32. The blocks
    that promise most come first, as their rows raise the threshold for the others.
    """
    known = join_candidates([scan.candidates for scan in scans])
    threshold = _reached_threshold(query, known, gallery, count)

    parts: list[Candidates] = []
    for scan in sorted(scans, key=lambda scan: -scan.ceiling):
        if scan.ceiling < threshold:
            parts.append(scan.candidates.at_least(threshold))
            continue

        found = product_candidates(scan.block, query, threshold, count)
        parts.append(found)
        threshold = max(threshold, join_candidates(parts).threshold(count))

    return join_candidates(parts).at_least(threshold)


def _reached_threshold(query: Tensor, known: Candidates, gallery: GalleryRows, count: int) -> float:
    """Return a similarity that ``count`` rows reach: that of the most promising ones."""
    if len(known.rows) < count:
        return -np.inf

    first = known.chosen(np.argsort(-known.low, kind="stable")[:count])
    return refine(first, query, gallery.take(first.rows)).threshold(count)

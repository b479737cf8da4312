"""Lists of the nearest rows of many queries by their codes, scored again in float64."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.code_product import CodeProduct, largest_number
from clipreid_kit._similarity.float32_pass import inverse_norms
from clipreid_kit._similarity.nearest_lists import offer
from clipreid_kit._similarity.rescore import Float64Scorer, float64_error_bound
from clipreid_kit._threads import OwnThreads, default_threads, own_threads
from clipreid_kit.retrieval.exact.code_grid import encode_query
from clipreid_kit.retrieval.exact.gallery_blocks import Block, GalleryRows
from clipreid_kit.retrieval.exact.product_lists import ProductLists
from clipreid_kit.retrieval.exact.row_source import RowSource

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_BLOCK = 1 << 21  # products of a block: 8 MB
_WIDEST = 1 << 15  # rows of a block
_CHUNK = 1 << 20  # elements of rows that are scored at once


class _CodeLists(NamedTuple):
    """The nearest rows of each query by their codes.

    Attributes:
        values: (Q, K), fast similarities, descending.
        rows: (Q, K), numbers of the rows among those that may be found.
        errors: (Q,), how far they may be from the exact ones.
    """

    values: FloatArray
    rows: IntArray
    errors: FloatArray


class _Share(NamedTuple):
    """Blocks of one source, and the number of the first row of each that may be found."""

    blocks: list[Block]
    offsets: list[int]


def code_lists(
    queries: Tensor, norms: Tensor, gallery: GalleryRows, count: int, kept: int
) -> ProductLists:
    """Find the nearest rows of each query by their codes, and score them in float64.

    Args:
        queries: (Q, D).
        norms: (Q,), their norms, float64.
        gallery: At least ``kept`` rows that may be found.
        count: How many rows are wanted in the end.
        kept: How many rows of each query are looked at; rows among them that are certainly not
            wanted have the value minus infinity.
    """
    units = queries.double() * inverse_norms(norms)[:, None]
    with own_threads(default_threads()) as threads:
        by_source = [
            _lists_of_source(units, source, shares, kept, threads)
            for source, shares in _shares(gallery, len(queries), threads.count)
        ]
        found = _merge(by_source, kept)
        rows = found.rows
        if gallery.allowed is not None:
            rows = np.flatnonzero(gallery.allowed)[rows]

        first = np.zeros(rows.shape, dtype=bool)
        first[:, :count] = True
        scores = np.full(rows.shape, -np.inf)
        _score(scores, first, rows, queries, norms, gallery, threads)

        error = float64_error_bound(queries.shape[1])
        reached = scores[:, :count].min(axis=1) - error
        may_be_near = found.values + found.errors[:, None] >= reached[:, None]
        _score(scores, may_be_near & ~first, rows, queries, norms, gallery, threads)

    order = np.argsort(-scores, axis=1, kind="stable")
    values = np.take_along_axis(scores, order, axis=1)
    rows = np.take_along_axis(rows, order, axis=1)
    is_complete = kept == gallery.num_allowed
    floor = np.full(len(rows), -np.inf) if is_complete else found.values[:, -1] + found.errors
    return ProductLists(values, rows, error, floor)


def _shares(
    gallery: GalleryRows, num_queries: int, num_threads: int
) -> list[tuple[RowSource, list[_Share]]]:
    """Share out the blocks of each source among threads."""
    blocks = gallery.blocks(min(_WIDEST, max(1, _BLOCK // num_queries)))
    offsets = np.cumsum([0, *(block.num_rows for block in blocks)]).tolist()

    shares = []
    for source in gallery.sources:
        own = [i for i, block in enumerate(blocks) if block.source is source]
        of_threads = []
        for thread in range(min(num_threads, len(own))):
            part = own[thread::num_threads]
            of_threads.append(_Share([blocks[i] for i in part], [offsets[i] for i in part]))
        if own:
            shares.append((source, of_threads))
    return shares


def _lists_of_source(
    units: Tensor, source: RowSource, shares: Sequence[_Share], kept: int, threads: OwnThreads
) -> _CodeLists:
    """Multiply unit queries (Q, D) with the codes of a source."""
    coded = encode_query(units, source.grid, largest_number(units.shape[1]))
    product = threads.call(lambda: CodeProduct(coded.numbers))
    errors = np.asarray(coded.error(*source.code_bounds(0, len(source))))

    def scan(share: _Share) -> tuple[Tensor, Tensor]:
        values = torch.full((len(units), kept), -torch.inf, dtype=torch.float32, device="cpu")
        rows = torch.zeros((len(units), kept), dtype=torch.int64, device="cpu")
        for block, offset in zip(share.blocks, share.offsets, strict=True):
            is_first = block is share.blocks[0]
            offer(values, rows, product(block.codes()), offset, by_row=False, empty=is_first)
        return values, rows

    found = list(threads.map(scan, shares))
    products = np.concatenate([values.numpy() for values, _ in found], axis=1)
    rows = np.concatenate([rows.numpy() for _, rows in found], axis=1)
    values = coded.similarities(products.T).T
    return _merge([_CodeLists(values, rows, errors)], kept)


def _merge(lists: Sequence[_CodeLists], kept: int) -> _CodeLists:
    """Return the nearest rows of several lists."""
    values = np.concatenate([own.values for own in lists], axis=1)
    rows = np.concatenate([own.rows for own in lists], axis=1)
    errors = np.max([own.errors for own in lists], axis=0)

    order = np.argsort(-values, axis=1, kind="stable")[:, :kept]
    values = np.take_along_axis(values, order, axis=1)
    rows = np.take_along_axis(rows, order, axis=1)
    return _CodeLists(values, rows, errors)


def _score(
    scores: FloatArray,
    which: npt.NDArray[np.bool_],
    rows: IntArray,
    queries: Tensor,
    norms: Tensor,
    gallery: GalleryRows,
    threads: OwnThreads,
) -> None:
    """Write the float64 similarities of some rows of the lists."""
    query, place = np.nonzero(which)
    step = max(1, _CHUNK // queries.shape[1])

    def score(start: int) -> FloatArray:
        part = slice(start, start + step)
        vectors = gallery.take(rows[query[part], place[part]])
        own_norms = torch.linalg.vector_norm(vectors.double(), dim=1)
        scorer = Float64Scorer(queries, norms, vectors, own_norms, "cosine")
        return scorer(query[part], np.arange(len(vectors)))[0]

    if len(query):
        found = list(threads.map(score, range(0, len(query), step)))
        scores[query, place] = np.concatenate(found)

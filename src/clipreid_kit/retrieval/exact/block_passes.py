"""Candidates of one query in one block: a scan of its codes, or a float32 product."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clipreid_kit.retrieval.exact.candidates import (
    Candidates,
    nearest_first,
    no_candidates,
    refine,
    score_exactly,
)
from clipreid_kit.retrieval.exact.code_grid import CodedQuery
from clipreid_kit.retrieval.exact.code_scan import scan_codes
from clipreid_kit.retrieval.exact.float32_block import multiply_float32
from clipreid_kit.retrieval.exact.gallery_blocks import Block

_SPARE = 128  # candidates of a block beyond those that are asked for
_MANY = 1024  # candidates of a block from which on they are scored at once


class BlockScan(NamedTuple):
    """Candidates of a block, and a bound on the similarities of its other rows.

    Attributes:
        block: The block.
        candidates: Its nearest rows, as far as they are known.
        ceiling: No other row of the block that may be found has a larger similarity.
    """

    block: Block
    candidates: Candidates
    ceiling: float


def unknown_block(block: Block) -> BlockScan:
    """Return a block of which nothing is known."""
    return BlockScan(block, no_candidates(), np.inf)


def scan_block(block: Block, coded: CodedQuery, count: int) -> BlockScan:
    """Find the nearest rows of a block by their codes.

    Args:
        block: The block.
        coded: The query in the numbers of the block's source.
        count: How many rows are wanted in the end.
    """
    source = block.source
    error = float(coded.error(*source.code_bounds(block.start, block.stop)))
    codes = source.codes(block.start, block.stop)
    found = scan_codes(codes, coded.numbers, count + _SPARE, block.positions)

    values = coded.similarities(found.products)
    candidates = Candidates(block.first + found.rows, values - error, values + error)
    floor = np.array([found.floor], dtype=np.float32)
    ceiling = -np.inf if np.isinf(found.floor) else float(coded.similarities(floor)[0]) + error
    return BlockScan(block, candidates, ceiling)


def product_candidates(block: Block, query: Tensor, threshold: float, count: int) -> Candidates:
    """Return all rows of a block that may reach a similarity and be among the nearest.

    Args:
        block: The block.
        query: (D,).
        threshold: Rows certainly below are left out.
        count: How many rows are wanted in the end.
    """
    norm = torch.linalg.vector_norm(query.double())[None]
    loaded = block.load()
    reference = 0.0 if loaded.along_center is None else float(loaded.along_center[0])
    out = torch.empty(1, block.num_rows, dtype=torch.float32, device="cpu")
    error = multiply_float32(query[None], norm, loaded, reference, out)

    values = out[0].numpy().astype(np.float64) + reference
    all_rows = Candidates(block.rows(), values - error, values + error)
    positions = np.flatnonzero(all_rows.high >= threshold)
    found = all_rows.chosen(positions)
    if len(positions) <= _MANY:
        return found

    vectors = loaded.vectors
    threshold = max(threshold, found.threshold(count))
    found, positions = _above(found, positions, threshold)
    refined = refine(found, query, vectors[torch.from_numpy(positions)])
    found, positions = _above(refined, positions, max(threshold, refined.threshold(count)))
    if len(positions) <= _MANY:
        return found

    exact = score_exactly(found, query, vectors[torch.from_numpy(positions)])
    return nearest_first(exact, count)


def _above(
    candidates: Candidates, positions: "np.ndarray[tuple[int], np.dtype[np.int64]]", low: float
) -> tuple[Candidates, "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
    """Return the candidates that may reach a similarity, and their positions."""
    is_above = candidates.high >= low
    return candidates.chosen(is_above), positions[is_above]

"""Random draws of gallery images, for the protocols that draw their galleries."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._checks import check_integer, check_seed
from clipreid_kit._similarity.embedding_rows import EmbeddingRows

IntArray = npt.NDArray[np.int64]
_BLOCK = 1 << 24  # numbers of a file that are checked at once


def check_draws(owner: str, num_splits: int, seed: int) -> None:
    """Check number and seed of random draws."""
    check_integer(owner, "num_splits", num_splits, 1)
    check_seed(owner, seed)


def draw_one_each(codes: IntArray, generator: torch.Generator) -> IntArray:
    """Draw one random row of each number, and return them in the order of the numbers."""
    order = torch.randperm(len(codes), generator=generator, device="cpu").numpy()
    first_of_each = np.unique(codes[order], return_index=True)[1]
    drawn: IntArray = order[first_of_each]
    return drawn


def draw_some_each(codes: IntArray, generator: torch.Generator, most: int) -> IntArray:
    """Draw random rows of each number: ``most`` of them, or all if there are fewer.

    Returns:
        The rows, number after number, in random order.
    """
    order = torch.randperm(len(codes), generator=generator, device="cpu").numpy()
    by_code = order[np.argsort(codes[order], kind="stable")]
    count = np.bincount(codes)
    begin = np.repeat(np.cumsum(count) - count, count)
    drawn: IntArray = by_code[np.arange(len(codes)) - begin < most]
    return drawn


def check_all_rows(
    owner: str, name: str, embeddings: Tensor | npt.NDArray[Any], device: torch.device | None
) -> EmbeddingRows:
    """Check the embeddings as a whole, so that an error names rows by the caller's numbers."""
    rows = EmbeddingRows(owner, name, embeddings, device)
    step = max(1, _BLOCK // rows.shape[1]) if rows.streamed else len(rows)
    for start in range(0, len(rows), step):
        rows.norms(start, min(start + step, len(rows)))
    return rows

"""k-reciprocal re-ranking against the dense algorithm of CLIP-ReID, torchreid and fast-reid.

The peer is restated from the paper's formulas in the shape that these share: all distances, an
argsort of each row, a dense matrix of weights, and loops over images.
"""

import argparse
import itertools
import time
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.bench_evaluation import clustered
from benchmarks.measure import (
    OURS,
    Work,
    interleaved,
    machine,
    memory_in_a_process,
    peak_memory,
    show,
)
from clipreid_kit import KReciprocalReranker, k_reciprocal_rerank

DENSE = "dense (as in CLIP-ReID, float32)"


def dense(
    queries: torch.Tensor,
    gallery: torch.Tensor,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
) -> np.ndarray:
    """Re-rank with N x N matrices in float32."""
    rows = torch.cat([queries, gallery])
    total, num_queries = len(rows), len(queries)
    original = (2 - 2 * rows @ rows.T).clamp_(min=0).numpy()
    original = np.transpose(original / np.max(original, axis=0))
    ranks = np.argsort(original).astype(np.int32)

    weights = np.zeros_like(original)
    for i in range(total):
        members = _expanded(ranks, i, k1)
        weight = np.exp(-original[i, members])
        weights[i, members] = weight / np.sum(weight)

    original = original[:num_queries]
    averaged = np.zeros_like(weights)
    for i in range(total):
        averaged[i] = np.mean(weights[ranks[i, :k2]], axis=0)
    weights = averaged

    rows_with = [np.where(weights[:, i] != 0)[0] for i in range(total)]
    jaccard = np.zeros_like(original)
    for i in range(num_queries):
        shared = np.zeros(total, dtype=np.float32)
        for j in np.where(weights[i] != 0)[0]:
            shared[rows_with[j]] += np.minimum(weights[i, j], weights[rows_with[j], j])
        jaccard[i] = 1 - shared / (2 - shared)

    mixed = jaccard * (1 - lambda_value) + original * lambda_value
    return mixed[:, num_queries:]


def _expanded(ranks: np.ndarray, i: int, k1: int) -> np.ndarray:
    """The k-reciprocal neighbours of image i, and those of neighbours with enough in common."""
    own = _reciprocal(ranks, i, k1)
    members = own
    for neighbour in own:
        other = _reciprocal(ranks, neighbour, int(np.around(k1 / 2)))
        if len(np.intersect1d(other, own)) > 2 / 3 * len(other):
            members = np.append(members, other)
    return np.unique(members)


def _reciprocal(ranks: np.ndarray, i: int, size: int) -> np.ndarray:
    forward = ranks[i, : size + 1]
    backward = ranks[forward, : size + 1]
    return forward[np.where(backward == i)[0]]


def contenders_of(queries: torch.Tensor, gallery: torch.Tensor) -> dict[str, Work]:
    """Return this library's matrix and blocks, and the dense algorithm."""

    def by_blocks() -> object:
        return [block.shape for _, block in KReciprocalReranker(queries, gallery)]

    return {
        OURS: lambda: k_reciprocal_rerank(queries, gallery),
        "clipreid_kit, blocks only": by_blocks,
        DENSE: lambda: dense(queries, gallery),
    }


class Costs(NamedTuple):
    """What re-ranking of some images took.

    Attributes:
        encoding: Seconds to find and weigh the neighbours.
        blocks: Seconds for the distances.
        processor: Seconds of all threads, for both.
        memory: MB that are added to the embeddings.
    """

    encoding: float
    blocks: float
    processor: float
    memory: float


def costs_of(num_images: int) -> Costs:
    """Re-rank by blocks of queries, which are a fifth of the images."""
    num_queries = num_images // 5
    sides = clustered(num_queries, num_images - num_queries, identities=num_images // 25)
    queries, gallery = (side[0] for side in sides)
    moments: list[float] = []
    processor: list[float] = []

    def note() -> None:
        moments.append(time.perf_counter())
        processor.append(time.process_time())

    def work() -> None:
        note()
        reranker = KReciprocalReranker(queries, gallery)
        note()
        total = sum(float(block.sum()) for _, block in reranker)
        note()
        print(f"  checksum of {num_images:,} images: {total:.6e}")

    memory = peak_memory(work)
    encoding, blocks = (late - early for early, late in itertools.pairwise(moments))
    return Costs(encoding, blocks, processor[-1] - processor[0], memory)


def huge() -> None:
    """Re-rank 100,000 images block by block: time of each part, and added memory."""
    print("\n20,000 x 80,000, 512-d")
    costs = costs_of(100_000)
    times = f"encoding {costs.encoding:.1f} s, blocks {costs.blocks:.1f} s"
    print(f"  {times}; {costs.processor:.1f} s of processor time")
    added = f"+{costs.memory:.0f} MB over the embeddings"
    print(f"  {added}; a dense matrix of 100,000 x 100,000 is 40,000 MB")


def million() -> None:
    """Extrapolate time and memory of 1,000,000 images from two smaller sets.

    Time is a N + b N^2 and memory c + d N, through what both sets take.
    """
    small, large, target = 40_000, 80_000, 1_000_000
    first, second = costs_of(small), costs_of(large)

    print("\n200,000 x 800,000, 512-d, extrapolated")
    for name in ("encoding", "blocks", "processor"):
        y1, y2 = getattr(first, name), getattr(second, name)
        square = (y2 / large - y1 / small) / (large - small)
        linear = y1 / small - square * small
        seconds = linear * target + square * target**2
        formula = f"{linear:.2e} N + {square:.2e} N^2"
        print(f"  {name}: {y1:.1f} s and {y2:.1f} s, {formula}: {seconds / 3600:.2f} h")

    slope = (second.memory - first.memory) / (large - small)
    memory = first.memory + slope * (target - small)
    print(f"  memory: {first.memory:.0f} MB and {second.memory:.0f} MB: {memory / 1000:.1f} GB")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--large",
        action="store_true",
        help="3,368 x 15,913: the peer takes 10 GB and a minute or more, and runs once",
    )
    parser.add_argument("--huge", action="store_true", help="20,000 x 80,000, without the peer")
    parser.add_argument(
        "--million", action="store_true", help="1,000,000 images, extrapolated from fewer"
    )
    parser.add_argument("--memory", help="print only the memory that this contender adds")
    parser.add_argument("--no-memory", action="store_true", help="times only")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def main() -> None:
    """Run 1,000 queries and 5,000 images by default; --large for the size of Market-1501."""
    options = parse_options()
    if options.huge:
        print(machine())
        huge()
        return
    if options.million:
        print(machine())
        million()
        return

    sizes = (3_368, 15_913, 751) if options.large else (1_000, 5_000, 300)
    queries, gallery = (side[0] for side in clustered(*sizes[:2], identities=sizes[2]))
    contenders = contenders_of(queries, gallery)
    if options.memory:
        print(peak_memory(contenders[options.memory]))
        return

    print(machine())
    memory: dict[str, float] = {}
    if not options.no_memory:
        flags = ["--large"] if options.large else []
        for name in list(contenders)[:2]:
            memory[name] = memory_in_a_process("benchmarks.bench_reranking", name, *flags)

    once: dict[str, float] = {}

    def compare_with_dense() -> None:
        began = time.perf_counter()
        difference = dense(queries, gallery) - k_reciprocal_rerank(queries, gallery).numpy()
        once[DENSE] = time.perf_counter() - began
        largest = np.abs(difference).max()
        print(f"largest difference from the dense algorithm: {largest:.1e}")

    # at the size of Market-1501 the peer runs once, for memory and time
    memory[DENSE] = peak_memory(compare_with_dense)
    if options.large:
        del contenders[DENSE]
    seconds = interleaved(contenders, options.repeats)
    if options.large:
        seconds[DENSE] = once[DENSE] - seconds[OURS]
    show(f"{sizes[0]} x {sizes[1]}, 512-d, k1 = 20, k2 = 6", seconds, memory=memory)


if __name__ == "__main__":
    main()

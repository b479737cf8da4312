"""k-reciprocal re-ranking against the dense algorithm that everyone copies (CLIP-ReID, torchreid, fast-reid on a CPU).

The peer is restated from the paper's formulas with the shape that the copies share: all distances, an argsort of each
row, a dense matrix of weights, and loops over images.
"""

import argparse
import time

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

DENSE = "dense (CLIP-ReID's way, float32)"


def dense(
    queries: torch.Tensor, gallery: torch.Tensor, k1: int = 20, k2: int = 6, share: float = 0.3
) -> np.ndarray:
    """The usual re-ranking: everything N x N in float32."""
    rows = torch.cat([queries, gallery])
    total, num_queries = len(rows), len(queries)
    original = (2 - 2 * rows @ rows.T).clamp_(min=0).numpy()
    original = np.transpose(original / np.max(original, axis=0))
    ranks = np.argsort(original).astype(np.int32)
    weights = np.zeros_like(original)

    def reciprocal(i: int, size: int) -> np.ndarray:
        forward = ranks[i, : size + 1]
        backward = ranks[forward, : size + 1]
        return forward[np.where(backward == i)[0]]

    for i in range(total):
        own = reciprocal(i, k1)
        expanded = own
        for candidate in own:
            other = reciprocal(candidate, int(np.around(k1 / 2)))
            if len(np.intersect1d(other, own)) > 2 / 3 * len(other):
                expanded = np.append(expanded, other)
        expanded = np.unique(expanded)
        weight = np.exp(-original[i, expanded])
        weights[i, expanded] = weight / np.sum(weight)
    original = original[:num_queries]
    averaged = np.zeros_like(weights)
    for i in range(total):
        averaged[i] = np.mean(weights[ranks[i, :k2]], axis=0)
    weights = averaged
    having = [np.where(weights[:, i] != 0)[0] for i in range(total)]
    jaccard = np.zeros_like(original)
    for i in range(num_queries):
        shared = np.zeros(total, dtype=np.float32)
        for j in np.where(weights[i] != 0)[0]:
            shared[having[j]] += np.minimum(weights[i, j], weights[having[j], j])
        jaccard[i] = 1 - shared / (2 - shared)
    return (jaccard * (1 - share) + original * share)[:, num_queries:]


def contenders_of(queries: torch.Tensor, gallery: torch.Tensor) -> dict[str, Work]:
    """Ours as a matrix and by blocks, and the dense way."""
    return {
        OURS: lambda: k_reciprocal_rerank(queries, gallery),
        "clipreid_kit, blocks only": lambda: [
            block.shape for _, block in KReciprocalReranker(queries, gallery)
        ],
        DENSE: lambda: dense(queries, gallery),
    }


def huge() -> None:
    """100,000 images, block by block: time of each part and the memory added."""
    queries, gallery = (side[0] for side in clustered(20_000, 80_000, identities=4_000))

    def work() -> None:
        began = time.perf_counter()
        reranker = KReciprocalReranker(queries, gallery)
        encoded = time.perf_counter()
        total = sum(float(block.sum()) for _, block in reranker)
        done = time.perf_counter()
        print(
            f"  encoding {encoded - began:.1f} s, blocks {done - encoded:.1f} s (checksum {total:.6e})"
        )

    print("\n20,000 x 80,000, 512-d")
    print(
        f"  +{peak_memory(work):.0f} MB over the embeddings; a dense matrix of 100,000 x 100,000 is 40,000 MB"
    )


def main() -> None:
    """1,000 queries and 5,000 images by default; --large for Market-1501's size, --huge for 100,000 images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--large",
        action="store_true",
        help="3,368 x 15,913: the peer takes 10 GB and a minute or more, and runs once",
    )
    parser.add_argument("--huge", action="store_true", help="20,000 x 80,000, without the peer")
    parser.add_argument(
        "--memory", help="print the memory that this contender adds, and nothing else"
    )
    parser.add_argument("--no-memory", action="store_true", help="times only")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    sizes = (3_368, 15_913, 751) if options.large else (1_000, 5_000, 300)
    if not options.huge:
        queries, gallery = (side[0] for side in clustered(*sizes[:2], identities=sizes[2]))
        contenders = contenders_of(queries, gallery)
    if options.memory:
        return print(peak_memory(contenders[options.memory]))
    print(machine())
    if options.huge:
        return huge()
    flags = ["--large"] if options.large else []
    memory = {
        name: memory_in_a_process("benchmarks.bench_reranking", name, *flags)
        for name in list(contenders)[:2]
        if not options.no_memory
    }
    once: dict[str, float] = {}

    def last() -> None:
        began = time.perf_counter()
        apart = np.abs(
            dense(queries, gallery) - k_reciprocal_rerank(queries, gallery).numpy()
        ).max()
        once[DENSE] = time.perf_counter() - began
        print(f"largest difference from the dense algorithm: {apart:.1e}")

    memory[DENSE] = peak_memory(last)  # with the run that is timed at Market-1501's size
    if options.large:
        del contenders[DENSE]
    seconds = interleaved(contenders, options.repeats)
    if options.large:
        seconds[DENSE] = once[DENSE] - seconds[OURS]
    show(f"{sizes[0]} x {sizes[1]}, 512-d, k1 = 20, k2 = 6", seconds, memory=memory)
    return None


if __name__ == "__main__":
    main()

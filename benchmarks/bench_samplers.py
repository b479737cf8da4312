"""One epoch of PK batches against pytorch-metric-learning and the sampler that CLIP-ReID and torchreid share."""

import argparse
import copy
import random
import time
from collections import defaultdict

import numpy as np
from pytorch_metric_learning.samplers import MPerClassSampler

from benchmarks.measure import machine
from clipreid_kit import PKSampler


def chunked_lists(labels: np.ndarray, p: int, k: int) -> int:
    """The widespread algorithm restated: Python lists of chunks, identities drawn until fewer than P are left."""
    rows = defaultdict(list)
    for row, label in enumerate(labels.tolist()):
        rows[label].append(row)
    chunks = {}
    for label, held in rows.items():
        own = copy.copy(held) if len(held) >= k else np.random.choice(held, k).tolist()  # noqa: NPY002 (theirs)
        random.shuffle(own)
        chunks[label] = [own[i : i + k] for i in range(0, len(own) - k + 1, k)]
    left, count = list(chunks), 0
    while len(left) >= p:
        for label in random.sample(left, p):
            chunks[label].pop(0)
            if not chunks[label]:
                left.remove(label)
        count += 1
    return count


def main() -> None:
    """13k images of 751 identities, and 1M of 50k with --large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    images, identities = (1_000_000, 50_000) if options.large else (12_936, 751)
    labels = np.random.default_rng(0).integers(0, identities, images)
    print(machine("pytorch-metric-learning"))
    print(f"\n{images} images, {identities} identities, P = 16, K = 4")
    for coverage in ("identities", "images"):
        began = time.perf_counter()
        sampler = PKSampler(labels, 16, 4, coverage=coverage)  # type: ignore[arg-type]
        built = time.perf_counter()
        next(iter(sampler))
        first = time.perf_counter()
        count = sum(1 for _ in sampler)
        end = time.perf_counter()
        print(
            f"  PKSampler {coverage:12} construct {built - began:.3f} s, first batch {1000 * (first - built):.1f} ms, "
            f"epoch {end - first:.3f} s, {count} batches (len {len(sampler)})"
        )
    began = time.perf_counter()
    count = chunked_lists(labels, 16, 4)
    print(f"  chunked lists (CLIP-ReID, torchreid)  epoch {time.perf_counter() - began:.3f} s, {count} batches")
    peer = MPerClassSampler(labels, 4, batch_size=64, length_before_new_iter=images)
    began = time.perf_counter()
    count = sum(1 for _ in peer) // 64
    print(f"  pytorch-metric-learning MPerClass     epoch {time.perf_counter() - began:.3f} s, {count} batches")


if __name__ == "__main__":
    main()

"""PK batches against pytorch-metric-learning, and the samplers of CLIP-ReID, torchreid and fast-reid restated."""

import argparse
import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from pytorch_metric_learning.samplers import MPerClassSampler

from benchmarks.measure import machine
from benchmarks.restated_samplers import Balanced, ChunkedLists, Naive, batches_of
from clipreid_kit import HardIdentitySampler, PKSampler

P, K = 16, 4
COLUMNS = ("construct", "first batch", "epoch")
YARDSTICK = "CLIP-ReID, torchreid (restated)"
Make = Callable[[], Iterable[Any]]


def contenders(images: int, identities: int) -> dict[str, Make]:
    """What makes each sampler; embeddings for the hard identities are random, and made before."""
    random = np.random.default_rng(0)
    labels, cameras = random.integers(0, identities, images), random.integers(0, 15, images)
    label_list, camera_list = labels.tolist(), cameras.tolist()
    return {
        "clipreid_kit, identities": lambda: PKSampler(labels, P, K),
        "clipreid_kit, images": lambda: PKSampler(labels, P, K, coverage="images"),
        "clipreid_kit, images, cameras": lambda: PKSampler(
            labels, P, K, coverage="images", cameras=cameras
        ),
        YARDSTICK: lambda: ChunkedLists(label_list, P, K),
        "pytorch-metric-learning MPerClass": lambda: MPerClassSampler(
            label_list, K, batch_size=P * K, length_before_new_iter=images
        ),
        "fast-reid Naive (restated)": lambda: Naive(label_list, P, K),
        "fast-reid Balanced (restated)": lambda: Balanced(label_list, camera_list, P, K),
    }


def once(make: Make, most: int) -> tuple[tuple[float, float, float], int, str]:
    """Seconds to construct, to the first batch and for an epoch; batches given, and what len() says."""
    gc.collect()
    began = time.perf_counter()
    sampler = make()
    built = time.perf_counter()
    own = isinstance(sampler, PKSampler)
    # fast-reid's have no end: their epoch is as many rows as there are images
    batches: Iterator[Any] = (
        iter(sampler) if own else batches_of(itertools.islice(iter(sampler), most), P * K)
    )
    next(batches)
    first = time.perf_counter()
    count = 1 + sum(1 for _ in batches)
    end = time.perf_counter()
    said = f"{len(sampler) / (1 if own else P * K):.0f}" if hasattr(sampler, "__len__") else "none"
    return (built - began, first - built, end - built), count, said


def compare(images: int, identities: int, repeats: int, only: list[str]) -> None:
    """Contenders take turns; medians, and the epoch of the yardstick by that of each."""
    print(f"\n{images} images, {identities} identities, P = {P}, K = {K}; times in ms")
    chosen = {
        name: make
        for name, make in contenders(images, identities).items()
        if any(word in name for word in only)
    }
    times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in chosen}
    counts = {}
    for _ in range(repeats):
        for name, make in chosen.items():
            seconds, *counts[name] = once(make, images)
            times[name].append(seconds)
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in times.items()
    }
    titles = "".join(f"{column:>13}" for column in COLUMNS)
    print(f"{'':34}{titles}{'batches':>9}{'len()':>9}{'epoch, ratio':>15}")
    for name, seconds in medians.items():
        count, said = counts[name]
        ratio = f"{medians[YARDSTICK][2] / seconds[2]:14.2f}x" if YARDSTICK in medians else ""
        print(
            f"{name:34}"
            + "".join(f"{1000 * s:13.2f}" for s in seconds)
            + f"{count:9}{said:>9}{ratio}"
        )
    if YARDSTICK in medians:
        print(f"ratio: how many times faster than {YARDSTICK}")


def resume_and_neighbours(images: int, identities: int) -> None:
    """What a resumed epoch costs, and the neighbours of hard identities."""
    labels = np.random.default_rng(0).integers(0, identities, images)
    sampler = PKSampler(labels, P, K, coverage="images")
    sampler.set_epoch(0, start_batch=len(sampler) - 2)
    began = time.perf_counter()
    next(iter(sampler))
    print(
        f"resumed at the last batch but one: {1000 * (time.perf_counter() - began):.2f} ms to the next batch"
    )
    hard = HardIdentitySampler(labels, P, K)
    dim = 512 if identities < 10_000 else 128
    embeddings = torch.randn(identities, dim, generator=torch.Generator().manual_seed(0))
    began = time.perf_counter()
    hard.update(embeddings, np.unique(labels))
    updated = time.perf_counter()
    count = sum(1 for _ in hard)
    end = time.perf_counter()
    print(
        f"HardIdentitySampler: update of {identities} identities in {dim} dimensions {updated - began:.3f} s, "
        f"epoch of {count} batches {end - updated:.3f} s"
    )


def main() -> None:
    """13k images of 751 identities, or 1M of 50k with --large (a minute and more, most of it the peers')."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--repeats", type=int)
    parser.add_argument(
        "--only", nargs="+", default=[""], help="contenders whose name contains one of these"
    )
    options = parser.parse_args()
    print(machine("pytorch-metric-learning"))
    images, identities, repeats = (1_000_000, 50_000, 1) if options.large else (12_936, 751, 15)
    compare(images, identities, options.repeats or repeats, options.only)
    resume_and_neighbours(images, identities)


if __name__ == "__main__":
    main()

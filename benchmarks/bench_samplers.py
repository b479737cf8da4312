"""PK batches against pytorch-metric-learning, and the samplers of three projects restated."""

import argparse
import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from pytorch_metric_learning.samplers import MPerClassSampler

from benchmarks.measure import machine, peak_memory
from benchmarks.restated_samplers import Balanced, ChunkedLists, Naive, batches_of
from clipreid_kit import HardIdentitySampler, PKSampler

P, K = 16, 4
COLUMNS = ("construct", "first batch", "epoch")
YARDSTICK = "CLIP-ReID, torchreid (restated)"

MakeSampler = Callable[[], Iterable[Any]]


class Run(NamedTuple):
    """Times of one sampler in seconds, and its number of batches."""

    seconds: tuple[float, float, float]  # to construct, to the first batch, for an epoch
    num_batches: int
    claimed_length: str  # what len() says, in batches


def contenders(num_images: int, num_all_identities: int) -> dict[str, MakeSampler]:
    """Constructors of all samplers, on random labels and cameras."""
    random = np.random.default_rng(0)
    labels = random.integers(0, num_all_identities, num_images)
    cameras = random.integers(0, 15, num_images)
    label_list = labels.tolist()
    camera_list = cameras.tolist()

    return {
        "clipreid_kit, identities": lambda: PKSampler(labels, P, K),
        "clipreid_kit, images": lambda: PKSampler(labels, P, K, coverage="images"),
        "clipreid_kit, images, cameras": lambda: PKSampler(
            labels, P, K, coverage="images", cameras=cameras
        ),
        YARDSTICK: lambda: ChunkedLists(label_list, P, K),
        "pytorch-metric-learning MPerClass": lambda: MPerClassSampler(
            label_list, K, batch_size=P * K, length_before_new_iter=num_images
        ),
        "fast-reid Naive (restated)": lambda: Naive(label_list, P, K),
        "fast-reid Balanced (restated)": lambda: Balanced(label_list, camera_list, P, K),
    }


def measure_once(make_sampler: MakeSampler, max_rows: int) -> Run:
    """Construct a sampler and iterate over one epoch, of ``max_rows`` rows if it has no end."""
    gc.collect()

    begin = time.perf_counter()
    sampler = make_sampler()
    constructed = time.perf_counter()

    yields_batches = isinstance(sampler, PKSampler)
    batches: Iterator[Any] = iter(sampler)
    if not yields_batches:
        batches = batches_of(itertools.islice(batches, max_rows), P * K)
    next(batches)
    first_batch = time.perf_counter()

    num_batches = 1 + sum(1 for _ in batches)
    end = time.perf_counter()

    claimed_length = "none"
    if hasattr(sampler, "__len__"):
        claimed_length = f"{len(sampler) / (1 if yields_batches else P * K):.0f}"
    seconds = (constructed - begin, first_batch - constructed, end - constructed)
    return Run(seconds, num_batches, claimed_length)


def compare(num_images: int, num_all_identities: int, repeats: int, only: list[str]) -> None:
    """Run the contenders in turns, and print medians and the ratio to the yardstick's epoch."""
    print(f"\n{num_images} images, {num_all_identities} identities, P = {P}, K = {K}; times in ms")
    samplers = contenders(num_images, num_all_identities)
    names = [name for name in samplers if any(word in name for word in only)]

    runs: dict[str, list[Run]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            runs[name].append(measure_once(samplers[name], num_images))

    medians = {}
    for name, own_runs in runs.items():
        columns = zip(*(run.seconds for run in own_runs), strict=True)
        medians[name] = [statistics.median(column) for column in columns]

    titles = "".join(f"{column:>13}" for column in COLUMNS)
    print(f"{'':34}{titles}{'batches':>9}{'len()':>9}{'epoch, ratio':>15}")
    for name, seconds in medians.items():
        last = runs[name][-1]
        times = "".join(f"{1000 * second:13.2f}" for second in seconds)
        ratio = f"{medians[YARDSTICK][2] / seconds[2]:14.2f}x" if YARDSTICK in medians else ""
        print(f"{name:34}{times}{last.num_batches:9}{last.claimed_length:>9}{ratio}")
    if YARDSTICK in medians:
        print(f"ratio: how many times faster than {YARDSTICK}")


def measure_resuming(labels: np.ndarray) -> None:
    """Print the time to the next batch of an epoch that is resumed near its end."""
    sampler = PKSampler(labels, P, K, coverage="images")
    sampler.set_epoch(0, start_batch=len(sampler) - 2)

    begin = time.perf_counter()
    next(iter(sampler))
    milliseconds = 1000 * (time.perf_counter() - begin)
    print(f"resumed at the last batch but one: {milliseconds:.2f} ms to the next batch")


def measure_huge(num_images: int, num_all_identities: int, repeats: int) -> None:
    """Print times to construct and to batches, and memory as a share of the labels'."""
    labels = np.random.default_rng(0).integers(0, num_all_identities, num_images)
    labels_mb = labels.nbytes / 1e6
    samplers: list[PKSampler] = []

    begin = time.perf_counter()
    memory = peak_memory(lambda: samplers.append(PKSampler(labels, P, K, coverage="images")))
    constructed = time.perf_counter()
    sampler = samplers[0]
    print(
        f"\n{num_images} images, {num_all_identities} identities: constructed in "
        f"{constructed - begin:.2f} s with {memory / labels_mb:.2f} times the labels' memory"
    )

    for start_batch in (0, len(sampler) // 2, len(sampler) - 1):
        milliseconds = []
        for epoch in range(repeats):
            sampler.set_epoch(epoch, start_batch=start_batch)
            begin = time.perf_counter()
            next(iter(sampler))
            milliseconds.append(1000 * (time.perf_counter() - begin))
        print(f"begun at batch {start_batch}: {statistics.median(milliseconds):.1f} ms")

    sampler.set_epoch(0)
    memory = peak_memory(lambda: sum(1 for _ in sampler))
    print(f"an epoch adds {memory / labels_mb:.2f} times the labels' memory")


def measure_hard_identities(labels: np.ndarray, num_all_identities: int) -> None:
    """Print the time to find the neighbours of all identities, and that of an epoch."""
    sampler = HardIdentitySampler(labels, P, K)
    dim = 512 if num_all_identities < 10_000 else 128
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(num_all_identities, dim, generator=generator)

    begin = time.perf_counter()
    sampler.update(embeddings, np.unique(labels))
    updated = time.perf_counter()
    num_batches = sum(1 for _ in sampler)
    end = time.perf_counter()
    print(
        f"HardIdentitySampler: update of {num_all_identities} identities in {dim} dimensions "
        f"{updated - begin:.3f} s, epoch of {num_batches} batches {end - updated:.3f} s"
    )


def main() -> None:
    """Measure 13k images of 751 identities, 1M of 50k with --large, or ours of 10M with --huge."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--large", action="store_true", help="takes over a minute")
    parser.add_argument("--huge", action="store_true")
    parser.add_argument("--repeats", type=int)
    parser.add_argument(
        "--only", nargs="+", default=[""], help="contenders whose name contains one of these"
    )
    options = parser.parse_args()

    num_images, num_all_identities, repeats = 12_936, 751, 15
    if options.large:
        num_images, num_all_identities, repeats = 1_000_000, 50_000, 1

    print(machine("pytorch-metric-learning"))
    if options.huge:
        measure_huge(10_000_000, 500_000, options.repeats or 15)
        return

    compare(num_images, num_all_identities, options.repeats or repeats, options.only)
    labels = np.random.default_rng(0).integers(0, num_all_identities, num_images)
    measure_resuming(labels)
    measure_hard_identities(labels, num_all_identities)


if __name__ == "__main__":
    main()

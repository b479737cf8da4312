"""ReID evaluation against the bare matrix product that it contains, and against what people copy.

CLIP-ReID's numpy loop is restated here: the whole matrix, argsort of each row, matches of the same camera dropped.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import (
    OURS,
    Work,
    interleaved,
    machine,
    memory_in_a_process,
    peak_memory,
    show,
)
from clipreid_kit import ReidResult, evaluate_reid

Side = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
FLOOR = "bare matmul by blocks (floor)"


def clustered(*sizes: int, identities: int, dim: int = 512) -> list[Side]:
    """Unit features of clustered identities with hard matches, ids and cameras: mAP and mINP as of a good model."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(identities, dim, generator=rng)
    centres += torch.randn(64, dim, generator=rng)[
        torch.randint(0, 64, (identities,), generator=rng)
    ]

    def sample(count: int) -> Side:
        ids = torch.randint(0, identities, (count,), generator=rng)
        noise = torch.randn(count, dim, generator=rng) * (
            1 + 2.5 * torch.rand(count, 1, generator=rng)
        )
        rows = torch.nn.functional.normalize(centres[ids] + noise, dim=1)
        return rows, ids, torch.randint(0, 6, (count,), generator=rng)

    return [sample(size) for size in sizes]


def numpy_loop(query: Side, gallery: Side) -> float:
    """The usual evaluation: whole matrix, whole argsort, a loop over queries."""
    q_ids, g_ids, q_cams, g_cams = (
        x.numpy() for side in zip(query[1:], gallery[1:], strict=True) for x in side
    )
    order = np.argsort(-(query[0] @ gallery[0].T).numpy(), axis=1)
    precisions = []
    for i in range(len(q_ids)):
        kept = order[i][~((g_ids[order[i]] == q_ids[i]) & (g_cams[order[i]] == q_cams[i]))]
        match = (g_ids[kept] == q_ids[i]).astype(np.int32)
        if match.any():
            precision = match.cumsum() / (np.arange(len(match)) + 1.0)
            precisions.append((precision * match).sum() / match.sum())
    return float(np.mean(precisions))


def matmul(query: torch.Tensor, gallery: torch.Tensor) -> Callable[[], None]:
    """The floor: all similarities in float32, block by block, and nothing done with them."""
    buffer = torch.empty(512, len(gallery), device=query.device)

    def work() -> None:
        for start in range(0, len(query), 512):
            part = query[start : start + 512]
            torch.mm(part, gallery.T, out=buffer[: len(part)])
        if query.is_cuda:
            torch.cuda.synchronize()

    return work


def in_pml(query: Side, gallery: Side) -> float:
    """pytorch-metric-learning's mAP; it knows no cameras, so all matches count."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    calculator = AccuracyCalculator(
        include=("mean_average_precision",), k=None, device=torch.device("cpu")
    )
    found = calculator.get_accuracy(
        query[0], query[1], gallery[0], gallery[1], ref_includes_query=False
    )
    return float(found["mean_average_precision"])


def in_torchmetrics(query: Side, gallery: Side) -> float:
    """torchmetrics' mAP of all similarities; no cameras, and similarities moved above 0, as it drops the others."""
    from torchmetrics.retrieval import RetrievalMAP

    metric = RetrievalMAP()
    for start in range(0, len(query[0]), 512):
        similarity = query[0][start : start + 512] @ gallery[0].T + 2
        index = torch.arange(start, start + len(similarity))[:, None].expand_as(similarity)
        match = query[1][start : start + 512, None] == gallery[1]
        metric.update(similarity.flatten(), match.flatten(), index.flatten())
    return float(metric.compute())


def contenders_of(query: Side, gallery: Side, loop: bool) -> dict[str, Work]:
    """Both passes, the floor, and the numpy loop where it fits."""
    from clipreid_kit.metrics._engine import count_nonmatches

    chosen = count_nonmatches.bfloat16_allowance
    options = dict(
        zip(
            ("query_ids", "query_cameras", "gallery_ids", "gallery_cameras"),
            (*query[1:], *gallery[1:]),
            strict=True,
        )
    )

    def ours(pays: Callable[..., bool] = chosen) -> ReidResult:
        count_nonmatches.bfloat16_allowance = pays
        try:
            return evaluate_reid(query[0], gallery[0], **options)
        finally:
            count_nonmatches.bfloat16_allowance = chosen

    contenders: dict[str, Work] = {
        OURS: ours,
        "clipreid_kit, float32 first": lambda: ours(lambda *_: False),
        "clipreid_kit, bfloat16 first": lambda: ours(lambda *_: True),
        FLOOR: matmul(query[0], gallery[0]),
    }
    if loop:
        contenders["numpy loop with argsort (CLIP-ReID's way)"] = lambda: numpy_loop(query, gallery)
    return contenders


def on_device(query: Side, gallery: Side, device: str) -> dict[str, Work]:
    """Features on a device, and features that have to be brought there first."""

    def moved() -> list[Side]:
        return [(side[0].to(device), *side[1:]) for side in (query, gallery)]

    contenders = contenders_of(*moved(), loop=False)
    del contenders["clipreid_kit, bfloat16 first"]  # for processors only

    def copied() -> object:
        return contenders_of(*moved(), loop=False)[OURS]()

    on_processor = {
        "clipreid_kit, on the processor": contenders_of(query, gallery, loop=False)[OURS]
    }
    return contenders | {"clipreid_kit, features copied there first": copied} | on_processor


def check_bits(contenders: dict[str, Work]) -> None:
    """All of ours agree to the last bit, query by query, wherever they ran."""
    found = {name: work() for name, work in contenders.items() if name.startswith(OURS)}
    if (
        len(
            {
                result.to_json(per_query=True)
                for result in found.values()
                if isinstance(result, ReidResult)
            }
        )
        != 1
    ):
        raise ValueError(
            f"not the same bits: {', '.join(f'{name} {result}' for name, result in found.items())}"
        )
    print(found[OURS])


def from_file(folder: Path) -> dict[str, Work]:
    """1,000 queries against 1,000,000 rows in a memory-mapped file; the floor reads the file as well."""
    (query,) = clustered(1000, identities=50_000)
    path, step, total = folder / "gallery.npy", 50_000, 1_000_000
    ids = torch.arange(total) + 50_000  # other identities, but for the first part
    first = clustered(1000, step, identities=50_000)[1]
    ids[:step] = first[1]
    if not path.exists():
        rows = np.lib.format.open_memmap(path, "w+", np.float32, (total, 512))
        for start in range(0, total, step):
            rng = torch.Generator().manual_seed(start)
            fresh = torch.nn.functional.normalize(
                torch.randn(step, 512, generator=rng) + 0.3, dim=1
            )
            rows[start : start + step] = (fresh if start else first[0]).numpy()
        rows.flush()
        del rows
    gallery = np.load(path, mmap_mode="r")

    def floor() -> None:
        buffer = torch.empty(len(query[0]), 1 << 14)
        for start in range(0, len(gallery), 1 << 14):
            part = torch.from_numpy(np.array(gallery[start : start + (1 << 14)]))
            torch.mm(query[0], part.T, out=buffer[:, : len(part)])

    return {
        OURS: lambda: evaluate_reid(query[0], gallery, query_ids=query[1], gallery_ids=ids),
        FLOOR: floor,
    }


def peers(query: Side, gallery: Side) -> dict[str, Work]:
    """What people install, and ours without cameras, which they do not know."""

    def ours() -> ReidResult:
        return evaluate_reid(query[0], gallery[0], query_ids=query[1], gallery_ids=gallery[1])

    return {
        OURS: ours,
        FLOOR: matmul(query[0], gallery[0]),
        "pytorch-metric-learning": lambda: in_pml(query, gallery),
        "torchmetrics": lambda: in_torchmetrics(query, gallery),
    }


def collapsed() -> None:
    """A model that maps every image to one point, and one that nearly does: all is undecided for float32."""
    query, gallery = clustered(3_368, 15_913, identities=751)
    rng = torch.Generator().manual_seed(1)
    ones = torch.ones(1, 512)
    for name, spread in (("one point", 0.0), ("within 1 ulp", 2.0**-23), ("within 1e-5", 1e-5)):
        sides = [
            ones + spread * torch.randn(len(rows[0]), 512, generator=rng)
            for rows in (query, gallery)
        ]
        work = {
            "clipreid_kit": lambda s=sides: evaluate_reid(
                *s, query_ids=query[1], gallery_ids=gallery[1]
            )
        }
        show(f"collapsed: {name}, 3368 x 15913", interleaved(work, 1))


def main() -> None:
    """Market-1501's size by default; --large for MSMT17's, --million for a file, --collapsed for the worst case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--large", action="store_true", help="11,659 x 82,161 (no peer: they do not fit)"
    )
    parser.add_argument(
        "--million", type=Path, help="1,000 x 1,000,000 from a file (2 GB) in this folder"
    )
    parser.add_argument(
        "--collapsed", action="store_true", help="3,368 x 15,913, all similarities nearly equal"
    )
    parser.add_argument("--peers", action="store_true", help="3,368 x 15,913 in installed packages")
    parser.add_argument("--device", default="cpu", help="where the features are: cpu, cuda, cuda:1")
    parser.add_argument(
        "--memory", help="print the memory that this contender adds, and nothing else"
    )
    parser.add_argument("--no-memory", action="store_true", help="times only")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    sizes = (11_659, 82_161, 3_060) if options.large else (3_368, 15_913, 751)
    title, contenders = f"{sizes[0]} x {sizes[1]}, 512-d, cameras excluded", {}
    flags = ["--large"] if options.large else []
    if options.million is not None:
        title, contenders = "1000 x 1000000 from a file, 512-d", from_file(options.million)
        flags = ["--million", str(options.million)]
    elif not options.collapsed:
        sides = clustered(*sizes[:2], identities=sizes[2])
        contenders = contenders_of(*sides, loop=not options.large)
        if options.device != "cpu":
            title, flags = f"{title}, on {options.device}", [*flags, "--device", options.device]
            contenders = on_device(sides[0], sides[1], options.device)
        if options.peers:
            title, contenders, flags = (
                f"{sizes[0]} x {sizes[1]}, 512-d, no cameras",
                peers(*sides),
                ["--peers"],
            )
    if options.memory:
        return print(peak_memory(contenders[options.memory], options.device))
    print(machine(device=options.device))
    if options.collapsed:
        return collapsed()
    memory = {
        name: memory_in_a_process("benchmarks.bench_evaluation", name, *flags)
        for name in contenders
        if not options.no_memory
    }
    check_bits(contenders)
    if options.peers:
        print(
            "mAP:", ", ".join(f"{name} {value()}" for name, value in list(contenders.items())[2:])
        )
    seconds = interleaved(contenders, options.repeats)
    show(title, seconds, memory=memory)
    for name in contenders:
        print(f"  {name:42}{seconds[name] / seconds[FLOOR]:6.2f}x the floor")
    return None


if __name__ == "__main__":
    main()

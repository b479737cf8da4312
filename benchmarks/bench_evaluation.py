"""ReID evaluation against the matrix product that it contains, and against other implementations.

CLIP-ReID's numpy loop is restated here: the whole matrix, an argsort of each row, matches of the
same camera dropped.
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

Side = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # embeddings, ids, cameras
FLOOR = "matrix product by blocks (floor)"


def clustered(*sizes: int, identities: int, dim: int = 512) -> list[Side]:
    """Make unit features of clustered identities with hard matches, ids and cameras.

    mAP and mINP are like those of a good model.
    """
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(identities, dim, generator=generator)
    groups = torch.randn(64, dim, generator=generator)
    centres += groups[torch.randint(0, 64, (identities,), generator=generator)]

    def sample(count: int) -> Side:
        ids = torch.randint(0, identities, (count,), generator=generator)
        noise = torch.randn(count, dim, generator=generator)
        noise *= 1 + 2.5 * torch.rand(count, 1, generator=generator)
        rows = torch.nn.functional.normalize(centres[ids] + noise, dim=1)
        return rows, ids, torch.randint(0, 6, (count,), generator=generator)

    return [sample(size) for size in sizes]


def numpy_loop(query: Side, gallery: Side) -> float:
    """Evaluate with the whole matrix, a whole argsort, and a loop over queries."""
    query_ids, query_cameras = query[1].numpy(), query[2].numpy()
    gallery_ids, gallery_cameras = gallery[1].numpy(), gallery[2].numpy()
    order = np.argsort(-(query[0] @ gallery[0].T).numpy(), axis=1)

    precisions = []
    for i in range(len(query_ids)):
        same_identity = gallery_ids[order[i]] == query_ids[i]
        same_camera = gallery_cameras[order[i]] == query_cameras[i]
        match = same_identity[~(same_identity & same_camera)].astype(np.int32)
        if match.any():
            precision = match.cumsum() / (np.arange(len(match)) + 1.0)
            precisions.append((precision * match).sum() / match.sum())
    return float(np.mean(precisions))


def matmul(query: torch.Tensor, gallery: torch.Tensor) -> Callable[[], None]:
    """Return the floor: all similarities in float32, block by block, without using them."""
    buffer = torch.empty(512, len(gallery), device=query.device)

    def work() -> None:
        for start in range(0, len(query), 512):
            part = query[start : start + 512]
            torch.mm(part, gallery.T, out=buffer[: len(part)])
        if query.is_cuda:
            torch.cuda.synchronize()

    return work


def in_pml(query: Side, gallery: Side) -> float:
    """Return pytorch-metric-learning's mAP; it has no cameras, so all matches count."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    calculator = AccuracyCalculator(
        include=("mean_average_precision",), k=None, device=torch.device("cpu")
    )
    found = calculator.get_accuracy(
        query[0], query[1], gallery[0], gallery[1], ref_includes_query=False
    )
    return float(found["mean_average_precision"])


def in_torchmetrics(query: Side, gallery: Side) -> float:
    """Return torchmetrics' mAP of all similarities, without cameras.

    Similarities are shifted above 0, because it drops all others.
    """
    from torchmetrics.retrieval import RetrievalMAP

    metric = RetrievalMAP()
    for start in range(0, len(query[0]), 512):
        part = slice(start, start + 512)
        similarity = query[0][part] @ gallery[0].T + 2
        index = torch.arange(start, start + len(similarity))[:, None].expand_as(similarity)
        match = query[1][part, None] == gallery[1]
        metric.update(similarity.flatten(), match.flatten(), index.flatten())
    return float(metric.compute())


def contenders_of(query: Side, gallery: Side, loop: bool) -> dict[str, Work]:
    """Return both passes, the floor, and the numpy loop if ``loop``."""
    from clipreid_kit.metrics._engine import count_nonmatches

    automatic = count_nonmatches.bfloat16_allowance

    def evaluate(allowance: Callable[..., float] = automatic) -> ReidResult:
        count_nonmatches.bfloat16_allowance = allowance
        try:
            return evaluate_reid(
                query[0],
                gallery[0],
                query_ids=query[1],
                gallery_ids=gallery[1],
                query_cameras=query[2],
                gallery_cameras=gallery[2],
            )
        finally:
            count_nonmatches.bfloat16_allowance = automatic

    contenders: dict[str, Work] = {
        OURS: evaluate,
        "clipreid_kit, float32 first": lambda: evaluate(lambda *_: 0.0),
        "clipreid_kit, bfloat16 first": lambda: evaluate(lambda *_: 1.0),
        FLOOR: matmul(query[0], gallery[0]),
    }
    if loop:
        contenders["numpy loop with argsort (as in CLIP-ReID)"] = lambda: numpy_loop(query, gallery)
    return contenders


def on_device(query: Side, gallery: Side, device: str) -> dict[str, Work]:
    """Return features on a device, features that are copied there first, and those on the CPU."""

    def moved() -> list[Side]:
        return [(side[0].to(device), *side[1:]) for side in (query, gallery)]

    def copied() -> object:
        return contenders_of(*moved(), loop=False)[OURS]()

    contenders = contenders_of(*moved(), loop=False)
    del contenders["clipreid_kit, bfloat16 first"]  # for CPUs only
    contenders["clipreid_kit, features copied there first"] = copied
    contenders["clipreid_kit, on the CPU"] = contenders_of(query, gallery, loop=False)[OURS]
    return contenders


def check_bits(contenders: dict[str, Work]) -> None:
    """Require that all contenders of this library agree to the last bit, query by query."""
    found = {name: work() for name, work in contenders.items() if name.startswith(OURS)}
    results = [result for result in found.values() if isinstance(result, ReidResult)]
    if len({result.to_json(per_query=True) for result in results}) != 1:
        shown = ", ".join(f"{name} {result}" for name, result in found.items())
        raise ValueError(f"not the same bits: {shown}")
    print(found[OURS])


def from_file(folder: Path, dtype: type[np.floating], total: int) -> dict[str, Work]:
    """Return 1,000 queries against ``total`` rows of a memory-mapped file of this type.

    The floor reads the file as well.
    """
    path, step = folder / f"gallery_{total}_{dtype.__name__}.npy", 50_000
    (query,) = clustered(1000, identities=50_000)
    first = clustered(1000, step, identities=50_000)[1]
    ids = torch.arange(total) + 50_000  # other identities, except for the first part
    ids[:step] = first[1]
    if not path.exists():
        write_gallery(path, first[0], total, dtype)
    gallery = np.load(path, mmap_mode="r")

    def floor() -> None:
        width = 1 << 14
        buffer = torch.empty(len(query[0]), width)
        for start in range(0, len(gallery), width):
            part = torch.from_numpy(np.array(gallery[start : start + width])).float()
            torch.mm(query[0], part.T, out=buffer[:, : len(part)])

    return {
        OURS: lambda: evaluate_reid(query[0], gallery, query_ids=query[1], gallery_ids=ids),
        FLOOR: floor,
    }


def write_gallery(path: Path, first: torch.Tensor, total: int, dtype: type[np.floating]) -> None:
    """Write ``total`` rows to a file: ``first``, then random ones."""
    step, dim = first.shape
    rows = np.lib.format.open_memmap(path, "w+", dtype, (total, dim))
    rows[:step] = first.numpy()
    for start in range(step, total, step):
        generator = torch.Generator().manual_seed(start)
        fresh = torch.randn(step, dim, generator=generator) + 0.3
        rows[start : start + step] = torch.nn.functional.normalize(fresh, dim=1).numpy()
    rows.flush()


def peers(query: Side, gallery: Side) -> dict[str, Work]:
    """Return other packages, and this library without cameras, which they lack."""

    def evaluate() -> ReidResult:
        return evaluate_reid(query[0], gallery[0], query_ids=query[1], gallery_ids=gallery[1])

    return {
        OURS: evaluate,
        FLOOR: matmul(query[0], gallery[0]),
        "pytorch-metric-learning": lambda: in_pml(query, gallery),
        "torchmetrics": lambda: in_torchmetrics(query, gallery),
    }


def collapsed() -> None:
    """Time a model that maps every image to one point, or nearly so: float32 decides nothing."""
    query, gallery = clustered(3_368, 15_913, identities=751)
    ids = {"query_ids": query[1], "gallery_ids": gallery[1]}
    generator = torch.Generator().manual_seed(1)
    for name, spread in (("one point", 0.0), ("within 1 ulp", 2.0**-23), ("within 1e-5", 1e-5)):
        sides = []
        for rows in (query, gallery):
            noise = torch.randn(len(rows[0]), 512, generator=generator)
            sides.append(1 + spread * noise)

        def work(sides: list[torch.Tensor] = sides) -> object:
            return evaluate_reid(*sides, **ids)

        show(f"collapsed: {name}, 3368 x 15913", interleaved({OURS: work}, 1))


KINDS = ("spread", "random", "common mean", "near-duplicates", "8 bits", "rank 8", "half")


def of_kind(kind: str, dim: int) -> tuple[Side, Side]:
    """Make features of Market's size on which the first pass has more or less to decide."""
    generator = torch.Generator().manual_seed(0)
    sizes, num_identities = (3_368, 15_913), 751

    def noise(count: int, width: int = dim) -> torch.Tensor:
        return torch.randn(count, width, generator=generator)

    centres, originals, directions = noise(num_identities), noise(2000), noise(8)
    sides = []
    for count in sizes:
        ids = torch.randint(0, num_identities, (count,), generator=generator)
        if kind == "half":
            ids[torch.rand(count, generator=generator) < 0.5] = 0

        rows = centres[ids] + 1.5 * noise(count)
        if kind == "random":
            rows = noise(count)
        elif kind == "common mean":
            rows += 50
        elif kind == "near-duplicates":
            copied = torch.randint(0, len(originals), (count,), generator=generator)
            rows = originals[copied] + 1e-5 * noise(count)
        elif kind == "rank 8":
            rows = noise(count, 8) @ directions

        rows = torch.nn.functional.normalize(rows, dim=1)
        if kind == "8 bits":
            rows = (rows * 300).round_().clamp_(-127, 127)
        sides.append((rows, ids, torch.randint(0, 6, (count,), generator=generator)))
    return sides[0], sides[1]


def of_file(path: Path) -> tuple[Side, Side]:
    """Read features from an .npz file with q, q_ids, q_cams, g, g_ids and g_cams, without junk."""
    with np.load(path) as arrays:
        named = {name: torch.from_numpy(arrays[name]) for name in arrays.files}

    is_kept = named["g_ids"] >= 0
    query = named["q"].float(), named["q_ids"], named["q_cams"]
    gallery = named["g"][is_kept].float(), named["g_ids"][is_kept], named["g_cams"][is_kept]
    return query, gallery


def kinds(options: argparse.Namespace) -> None:
    """Time features of several kinds against the product of their rows."""
    named = {kind: (lambda kind=kind: of_kind(kind, options.dim)) for kind in KINDS}
    named |= {path.name: (lambda path=path: of_file(path)) for path in options.features}
    for name in [*(options.kinds or []), *(path.name for path in options.features)]:
        query, gallery = named[name]()
        every = contenders_of(query, gallery, loop=False)
        contenders = {key: every[key] for key in (OURS, FLOOR)}
        found = contenders[OURS]()
        seconds = interleaved(contenders, options.repeats)
        ratio = seconds[OURS] / seconds[FLOOR]
        print(f"{name:20} {ratio:6.2f}x the floor of {seconds[FLOOR]:.2f} s   {found}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--large", action="store_true", help="11,659 x 82,161 (without peers: they do not fit)"
    )
    parser.add_argument(
        "--million", type=Path, help="1,000 x 1,000,000 from a file (2 GB) in this folder"
    )
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="of the file of --million; a multiple of 50,000"
    )
    parser.add_argument("--float16", action="store_true", help="the file of --million has float16")
    parser.add_argument(
        "--collapsed", action="store_true", help="3,368 x 15,913, all similarities nearly equal"
    )
    parser.add_argument("--peers", action="store_true", help="3,368 x 15,913 in other packages")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, help="features of these kinds")
    parser.add_argument("--dim", type=int, default=128, help="width of the features of --kinds")
    parser.add_argument(
        "--features", type=Path, nargs="+", default=[], help=".npz files with q, g, ids and cams"
    )
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--device", default="cpu", help="device of the features: cpu, cuda, cuda:1")
    parser.add_argument("--memory", help="print only the memory that this contender adds")
    parser.add_argument("--no-memory", action="store_true", help="times only")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def chosen_contenders(options: argparse.Namespace) -> tuple[str, dict[str, Work], list[str]]:
    """Return a title, the contenders, and the flags that select them in another process."""
    if options.million is not None:
        dtype = np.float16 if options.float16 else np.float32
        title = f"1000 x {options.rows} from a file, 512-d, {dtype.__name__}"
        flags = ["--million", str(options.million), "--rows", str(options.rows)]
        if options.float16:
            flags.append("--float16")
        return title, from_file(options.million, dtype, options.rows), flags

    sizes = (11_659, 82_161, 3_060) if options.large else (3_368, 15_913, 751)
    size = f"{sizes[0]} x {sizes[1]}, 512-d"
    query, gallery = clustered(*sizes[:2], identities=sizes[2])
    if options.peers:
        return f"{size}, no cameras", peers(query, gallery), ["--peers"]

    flags = ["--large"] if options.large else []
    title = f"{size}, cameras excluded"
    if options.device == "cpu":
        return title, contenders_of(query, gallery, loop=not options.large), flags
    contenders = on_device(query, gallery, options.device)
    return f"{title}, on {options.device}", contenders, [*flags, "--device", options.device]


def main() -> None:
    """Run the size of Market-1501 by default; see --help for all others."""
    options = parse_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.kinds or options.features:
        print(machine(device=options.device))
        kinds(options)
        return

    if options.collapsed:
        print(machine(device=options.device))
        collapsed()
        return

    title, contenders, flags = chosen_contenders(options)
    if options.memory:
        print(peak_memory(contenders[options.memory], options.device))
        return

    print(machine(device=options.device))
    memory: dict[str, float] = {}
    if not options.no_memory:
        for name in contenders:
            memory[name] = memory_in_a_process("benchmarks.bench_evaluation", name, *flags)

    check_bits(contenders)
    if options.peers:
        shown = [f"{name} {work()}" for name, work in list(contenders.items())[2:]]
        print("mAP:", ", ".join(shown))

    seconds = interleaved(contenders, options.repeats)
    show(title, seconds, memory=memory)
    for name in contenders:
        print(f"  {name:42}{seconds[name] / seconds[FLOOR]:6.2f}x the floor")


if __name__ == "__main__":
    main()

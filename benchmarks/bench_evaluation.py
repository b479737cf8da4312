"""ReID evaluation against the bare matrix product that it contains, and against what people copy.

CLIP-ReID's numpy loop is restated here: the whole matrix, argsort of each row, matches of the same camera dropped.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import added_memory, interleaved, machine, show
from clipreid_kit import ReidResult, evaluate_reid

Side = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def clustered(*sizes: int, identities: int, dim: int = 512) -> list[Side]:
    """Unit features of clustered identities with hard matches, ids and cameras: mAP and mINP as of a good model."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(identities, dim, generator=rng)
    centres += torch.randn(64, dim, generator=rng)[torch.randint(0, 64, (identities,), generator=rng)]

    def sample(count: int) -> Side:
        ids = torch.randint(0, identities, (count,), generator=rng)
        noise = torch.randn(count, dim, generator=rng) * (1 + 2.5 * torch.rand(count, 1, generator=rng))
        rows = torch.nn.functional.normalize(centres[ids] + noise, dim=1)
        return rows, ids, torch.randint(0, 6, (count,), generator=rng)

    return [sample(size) for size in sizes]


def numpy_loop(query: Side, gallery: Side) -> float:
    """The usual evaluation: whole matrix, whole argsort, a loop over queries."""
    q_ids, g_ids, q_cams, g_cams = (x.numpy() for side in zip(query[1:], gallery[1:], strict=True) for x in side)
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
    buffer = torch.empty(512, len(gallery))

    def work() -> None:
        for start in range(0, len(query), 512):
            part = query[start : start + 512]
            torch.mm(part, gallery.T, out=buffer[: len(part)])

    return work


def compare(query: Side, gallery: Side, repeats: int, loop: bool) -> None:
    """Time, memory and result of both passes, the floor, and the numpy loop where it fits."""
    from clipreid_kit.metrics import ranking

    chosen = ranking.bfloat16_pays
    options = dict(
        zip(("query_ids", "query_cameras", "gallery_ids", "gallery_cameras"), (*query[1:], *gallery[1:]), strict=True)
    )

    def ours(pays: Callable[..., bool] = chosen) -> ReidResult:
        ranking.bfloat16_pays = pays
        try:
            return evaluate_reid(query[0], gallery[0], **options)
        finally:
            ranking.bfloat16_pays = chosen

    contenders: dict[str, Callable[[], object]] = {
        "clipreid_kit": ours,
        "clipreid_kit, float32 first": lambda: ours(lambda *_: False),
        "clipreid_kit, bfloat16 first": lambda: ours(lambda *_: True),
        "bare blocked matmul (floor)": matmul(query[0], gallery[0]),
    }
    print(ours())
    if loop:
        contenders["numpy loop with argsort (CLIP-ReID's way)"] = lambda: numpy_loop(query, gallery)
        print(f"mAP: ours {ours().mean_ap:.9f}, numpy loop {numpy_loop(query, gallery):.9f}")
    memory = {name: added_memory(work) for name, work in contenders.items()}
    title = f"{len(query[0])} x {len(gallery[0])}, 512-d, cameras excluded"
    show(title, interleaved(contenders, repeats), memory=memory)


def from_file(folder: Path, repeats: int) -> None:
    """1,000 queries against 1,000,000 rows in a memory-mapped file; the floor reads the file as well."""
    (query,) = clustered(1000, identities=50_000)
    rows = np.lib.format.open_memmap(folder / "gallery.npy", "w+", np.float32, (1_000_000, 512))
    ids = torch.empty(len(rows), dtype=torch.long)
    step = 50_000
    for start in range(0, len(rows), step):  # other identities, but for the first part
        part = clustered(1000, step, identities=50_000)[1] if start == 0 else None
        rng = torch.Generator().manual_seed(start)
        fresh = torch.nn.functional.normalize(torch.randn(step, 512, generator=rng) + 0.3, dim=1)
        rows[start : start + step] = (fresh if part is None else part[0]).numpy()
        ids[start : start + step] = start + 50_000 + torch.arange(step) if part is None else part[1]
    rows.flush()
    del rows
    gallery = np.load(folder / "gallery.npy", mmap_mode="r")

    def ours() -> float:
        return evaluate_reid(query[0], gallery, query_ids=query[1], gallery_ids=ids).mean_ap

    def floor() -> None:
        buffer = torch.empty(len(query[0]), 1 << 14)
        for start in range(0, len(gallery), 1 << 14):
            part = torch.from_numpy(np.array(gallery[start : start + (1 << 14)]))
            torch.mm(query[0], part.T, out=buffer[:, : len(part)])

    contenders: dict[str, Callable[[], object]] = {"clipreid_kit": ours, "read and multiply (floor)": floor}
    memory = {"clipreid_kit": added_memory(ours), "read and multiply (floor)": float("nan")}
    show("1000 x 1000000 from a file, 512-d", interleaved(contenders, repeats), memory=memory)


def collapsed() -> None:
    """A model that maps every image to one point, and one that nearly does: all is undecided for float32."""
    query, gallery = clustered(3_368, 15_913, identities=751)
    rng = torch.Generator().manual_seed(1)
    ones = torch.ones(1, 512)
    for name, spread in (("one point", 0.0), ("within 1 ulp", 2.0**-23), ("within 1e-5", 1e-5)):
        sides = [ones + spread * torch.randn(len(rows[0]), 512, generator=rng) for rows in (query, gallery)]
        work = {"clipreid_kit": lambda s=sides: evaluate_reid(*s, query_ids=query[1], gallery_ids=gallery[1])}
        show(f"collapsed: {name}, 3368 x 15913", interleaved(work, 1))


def main() -> None:
    """Market-1501's size by default; --large for MSMT17's, --million for a file, --collapsed for the worst case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="11,659 x 82,161 (no peer: they do not fit)")
    parser.add_argument("--million", action="store_true", help="1,000 x 1,000,000 from a memory-mapped file (2 GB)")
    parser.add_argument("--collapsed", action="store_true", help="3,368 x 15,913, all similarities nearly equal")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(machine())
    if options.million:
        with tempfile.TemporaryDirectory() as folder:
            from_file(Path(folder), options.repeats)
    elif options.collapsed:
        collapsed()
    elif options.large:
        compare(*clustered(11_659, 82_161, identities=3_060), options.repeats, loop=False)
    else:
        compare(*clustered(3_368, 15_913, identities=751), options.repeats, loop=True)


if __name__ == "__main__":
    main()

"""ReID evaluation against the bare matrix product that it contains, and against pytorch-metric-learning.

The peers that people copy (CLIP-ReID's numpy loop) are restated here: argsort each row, drop same-camera matches.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.measure import added_memory, interleaved, machine, show
from clipreid_kit import evaluate_reid


def clustered(num_queries: int, num_gallery: int, identities: int, dim: int = 512) -> tuple[torch.Tensor, ...]:
    """Unit features of clustered identities with hard matches, ids and cameras."""
    rng = torch.Generator().manual_seed(0)
    centres = 0.6 * torch.randn(identities, dim, generator=rng)
    centres += torch.randn(64, dim, generator=rng)[torch.randint(0, 64, (identities,), generator=rng)]

    def sample(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        ids = torch.randint(0, identities, (count,), generator=rng)
        noise = torch.randn(count, dim, generator=rng) * (1 + 2 * torch.rand(count, 1, generator=rng))
        rows = torch.nn.functional.normalize(centres[ids] + noise, dim=1)
        return rows, ids, torch.randint(0, 6, (count,), generator=rng)

    return (*sample(num_queries), *sample(num_gallery))


def numpy_loop(
    q: torch.Tensor, qi: torch.Tensor, qc: torch.Tensor, g: torch.Tensor, gi: torch.Tensor, gc: torch.Tensor
) -> float:
    """The usual evaluation: whole matrix, whole argsort, a loop over queries."""
    q_ids, g_ids, q_cams, g_cams = (x.numpy() for x in (qi, gi, qc, gc))
    order = np.argsort(-(q @ g.T).numpy(), axis=1)
    precisions = []
    for i in range(len(q_ids)):
        kept = order[i][~((g_ids[order[i]] == q_ids[i]) & (g_cams[order[i]] == q_cams[i]))]
        match = (g_ids[kept] == q_ids[i]).astype(np.int32)
        if match.any():
            precision = match.cumsum() / (np.arange(len(match)) + 1.0)
            precisions.append((precision * match).sum() / match.sum())
    return float(np.mean(precisions))


def main() -> None:
    """Market-1501's size by default; --large for MSMT17's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="11,659 x 82,161 (no peer: they do not fit)")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    sizes = (11_659, 82_161, 3_060) if options.large else (3_368, 15_913, 751)
    q, qi, qc, g, gi, gc = clustered(*sizes)
    buffer = torch.empty(512, len(g))

    def matmul() -> None:
        for start in range(0, len(q), 512):
            part = q[start : start + 512]
            torch.mm(part, g.T, out=buffer[: len(part)])

    def ours() -> float:
        return evaluate_reid(q, g, query_ids=qi, gallery_ids=gi, query_cameras=qc, gallery_cameras=gc).mean_ap

    contenders: dict[str, Callable[[], object]] = {"clipreid_kit": ours, "bare blocked matmul (floor)": matmul}
    if not options.large:
        contenders["numpy loop with argsort (CLIP-ReID's way)"] = lambda: numpy_loop(q, qi, qc, g, gi, gc)
        print(f"mAP: ours {ours():.9f}, numpy loop {numpy_loop(q, qi, qc, g, gi, gc):.9f}")
    print(machine())
    memory = {name: added_memory(work) for name, work in contenders.items()}
    show(f"{len(q)} x {len(g)}, 512-d, cameras excluded", interleaved(contenders, options.repeats), memory=memory)


if __name__ == "__main__":
    main()

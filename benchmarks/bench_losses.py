"""Losses, forward and backward, against pytorch-metric-learning and open_clip."""

import argparse
from collections.abc import Callable

import torch
from open_clip.loss import ClipLoss
from pytorch_metric_learning import distances, losses, miners, reducers

from benchmarks.measure import interleaved, machine, show
from clipreid_kit import InfoNCELoss, SupConLoss, TripletLoss


def main() -> None:
    """B in {64, 512, 4096}, D 512, K 4."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 512, 4096])
    options = parser.parse_args()
    print(machine("pytorch-metric-learning", "open_clip_torch"))
    euclidean = distances.LpDistance(normalize_embeddings=False)
    mine = miners.BatchHardMiner(distance=euclidean)
    peer_triplet = losses.TripletMarginLoss(margin=0.3, distance=euclidean, reducer=reducers.MeanReducer())
    peer_supcon = losses.SupConLoss(temperature=0.07)
    for batch in options.batches:
        rows = torch.randn(batch, 512, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(batch) // 4
        texts = torch.nn.functional.normalize(rows.roll(1, 0) + rows, dim=1)

        def step(loss: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor = rows) -> Callable[[], None]:
            def work() -> None:
                leaf = rows.clone().requires_grad_()
                loss(leaf).backward()

            return work

        def unit(r: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(r, dim=1)

        pairs = {
            "triplet, batch-hard": (
                lambda r, y=labels: TripletLoss()(r, y),
                {"pytorch-metric-learning": lambda r, y=labels: peer_triplet(r, y, mine(r, y))},
            ),
            "SupCon": (
                lambda r, y=labels: SupConLoss()(r, y),
                {"pytorch-metric-learning": lambda r, y=labels: peer_supcon(r, y)},
            ),
            "InfoNCE": (
                lambda r, t=texts: InfoNCELoss()(r, t),
                {"open_clip ClipLoss": lambda r, t=texts: ClipLoss()(unit(r), t, torch.tensor(1 / 0.07))},
            ),
        }
        for name, (ours, peers) in pairs.items():
            contenders = {"clipreid_kit": step(ours), **{peer: step(loss) for peer, loss in peers.items()}}
            repeats = 30 if batch <= 512 else 5
            show(f"{name}, B = {batch}, forward + backward", interleaved(contenders, repeats), "clipreid_kit")


if __name__ == "__main__":
    main()

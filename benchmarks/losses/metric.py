"""Triplet loss against pytorch-metric-learning."""

import torch
from pytorch_metric_learning import distances, losses, miners, reducers

from benchmarks.losses.step import step
from benchmarks.measure import OURS, Work
from clipreid_kit import TripletLoss

DIM, INSTANCES = 512, 4


def contenders(batch: int) -> dict[str, dict[str, Work]]:
    """Cases at one batch size, each with its contenders."""
    rows = torch.randn(batch, DIM, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(batch) // INSTANCES
    euclidean = distances.LpDistance(normalize_embeddings=False)
    mine = miners.BatchHardMiner(distance=euclidean)
    peer = losses.TripletMarginLoss(margin=0.3, distance=euclidean, reducer=reducers.MeanReducer())
    ours = TripletLoss()
    return {
        "triplet, batch-hard": {
            OURS: step(rows, lambda r: ours(r, labels)),
            "pytorch-metric-learning": step(rows, lambda r: peer(r, labels, mine(r, labels))),
        },
    }

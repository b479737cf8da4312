"""Adapt frozen embeddings in seconds: python -m examples.feature_adapter train.npz test.npz.

``clipreid embed MODEL IMAGES train.npz --split train`` writes such files, and so does any program
that saves ``embeddings`` and ``ids`` by ``numpy.savez``. The model itself does not run. The first
line of the result is the frozen baseline, which every fine-tuned model has to beat.
"""

import argparse
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clipreid_kit import (
    FeatureAdapter,
    MultiSimilarityLoss,
    PKSampler,
    ReidResult,
    SupConLoss,
    TripletLoss,
    WarmupCosineLR,
    evaluate_reid,
)

LOSSES: dict[str, nn.Module] = {
    "supcon": SupConLoss(0.1),
    "triplet": TripletLoss(0.1, distance="cosine"),
    "multi_similarity": MultiSimilarityLoss(),
}


def train_adapter(
    embeddings: Tensor,
    labels: Tensor,
    loss: nn.Module,
    *,
    hidden_dim: int | None = None,
    steps: int = 500,
    lr: float = 3e-3,
    seed: int = 0,
) -> FeatureAdapter:
    """Train a map on frozen embeddings (N, D), by any loss on embeddings and labels."""
    torch.manual_seed(seed)
    adapter = FeatureAdapter(embeddings.shape[1], hidden_dim=hidden_dim)
    identities = min(32, len(set(labels.tolist())))
    sampler = PKSampler(labels.tolist(), identities, num_instances=4, seed=seed)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=lr, weight_decay=0.01)
    schedule = WarmupCosineLR(optimizer, steps // 10, steps)

    for step in range(steps):
        if step % len(sampler) == 0:
            sampler.set_epoch(step // len(sampler))
            batches = iter(sampler)

        rows = next(batches)
        value = loss(adapter(embeddings[rows]), labels[rows])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    return adapter.eval()


@torch.no_grad()
def evaluate(adapter: nn.Module, file: dict[str, Any]) -> ReidResult:
    """Search queries in a gallery, or each image among the others."""
    if "embeddings" in file:
        return evaluate_reid(adapter(torch.from_numpy(file["embeddings"])), query_ids=file["ids"])

    query = adapter(torch.from_numpy(file["query_embeddings"]))
    gallery = adapter(torch.from_numpy(file["gallery_embeddings"]))
    return evaluate_reid(
        query,
        gallery,
        query_ids=file["query_ids"],
        gallery_ids=file["gallery_ids"],
        query_cameras=file.get("query_cameras"),
        gallery_cameras=file.get("gallery_cameras"),
    )


def main(arguments: list[str] | None = None) -> tuple[ReidResult, ReidResult]:
    """Train on one file, and evaluate another one, before and after."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", help=".npz with embeddings and ids")
    parser.add_argument(
        "test", help=".npz of other identities, with a query and gallery or without"
    )
    parser.add_argument("--loss", choices=LOSSES, default="supcon")
    parser.add_argument("--hidden-dim", type=int, help="an MLP of this width beside the linear map")
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args(arguments)

    train, test = dict(np.load(options.train)), dict(np.load(options.test))
    labels = torch.from_numpy(np.unique(train["ids"], return_inverse=True)[1])
    adapter = train_adapter(
        torch.from_numpy(train["embeddings"]),
        labels,
        LOSSES[options.loss],
        hidden_dim=options.hidden_dim,
        steps=options.steps,
    )

    frozen, adapted = evaluate(nn.Identity(), test), evaluate(adapter, test)
    print(f"frozen   {frozen}\nadapted  {adapted}")
    if adapted.mean_ap < frozen.mean_ap:
        print("The adapter made the frozen embeddings WORSE.")
    return frozen, adapted


if __name__ == "__main__":
    main()

"""Metric losses against pytorch-metric-learning, and against the algorithms of CLIP-ReID, fast-reid and torchreid.

The last three are restated from their formulas in a few lines each. "floor" is the matrix product that choosing the
hardest pairs cannot avoid, or the three (one forward, two backward) of a loss of all pairs.
"""

import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from torch import Tensor
from torch.nn import functional

from benchmarks.losses.step import floor, step
from benchmarks.measure import OURS, Work
from clipreid_kit import (
    CenterLoss,
    CircleLoss,
    MultiSimilarityLoss,
    TripletLoss,
    WeightedTripletLoss,
)

DIM, INSTANCES, IDENTITIES = 512, 4, 1051
PEER = "pytorch-metric-learning"


def matrix(rows: Tensor, other: Tensor) -> Tensor:
    """Euclidean distances as CLIP-ReID and fast-reid take them: |a|^2 + |b|^2 - 2ab, clamped, rooted."""
    squared = rows.square().sum(1, keepdim=True) + other.square().sum(1)[None]
    return (squared - 2 * rows @ other.T).clamp(min=1e-12).sqrt()


def ranking(negative: Tensor, positive: Tensor) -> Tensor:
    """Hinge of margin 0.3 as all three take it."""
    return functional.margin_ranking_loss(negative, positive, torch.ones_like(positive), margin=0.3)


def clip_reid_triplet(rows: Tensor, labels: Tensor) -> Tensor:
    """Identities of one size: masked entries in a table, then its extremes."""
    distance, count = matrix(rows, rows), len(rows)
    same = labels.expand(count, count).eq(labels.expand(count, count).T)
    positive = distance[same].contiguous().view(count, -1).max(1).values
    return ranking(distance[~same].contiguous().view(count, -1).min(1).values, positive)


def fast_reid_triplet(rows: Tensor, labels: Tensor) -> Tensor:
    """Masks as numbers, and a large constant on the positives for the nearest negative."""
    distance = matrix(rows, rows)
    same = (labels[:, None] == labels[None]).float()
    different = 1 - same
    positive = (distance * same).max(1).values
    return ranking((distance * different + same * 1e9).min(1).values, positive)


def torchreid_triplet(rows: Tensor, labels: Tensor) -> Tensor:
    """A loop over anchors."""
    distance, same = matrix(rows, rows), labels[:, None] == labels[None]
    positive = torch.stack([distance[i][same[i]].max() for i in range(len(rows))])
    return ranking(torch.stack([distance[i][~same[i]].min() for i in range(len(rows))]), positive)


def fast_reid_weighted(rows: Tensor, labels: Tensor) -> Tensor:
    """Weights of a softmax over the positives' and the negatives' distances (AGW)."""
    distance = matrix(rows, rows)
    same = (labels[:, None] == labels[None]).float()

    def mean(sign: int, mask: Tensor) -> Tensor:
        masked = distance * mask
        logits = sign * masked
        weights = (logits - (logits * mask).max(1, keepdim=True).values).exp() * mask
        return (masked * weights / (weights.sum(1, keepdim=True) + 1e-6)).sum(1)

    gap = mean(-1, 1 - same) - mean(1, same)
    return functional.soft_margin_loss(gap, torch.ones_like(gap))


def fast_reid_circle(rows: Tensor, labels: Tensor) -> Tensor:
    """Masks as numbers, two logsumexps of full rows."""
    unit = functional.normalize(rows, dim=1)
    similarity = unit @ unit.T
    same = (labels[:, None] == labels[None]).float()
    positive, negative = same - torch.eye(len(rows)), 1 - same
    near, far = similarity * positive, similarity * negative
    pull = (1.25 - near.detach()).clamp(min=0)
    push = (far.detach() + 0.25).clamp(min=0)
    pulled = -128 * pull * (near - 0.75) - 99999999.0 * (1 - positive)
    pushed = 128 * push * (far - 0.25) - 99999999.0 * (1 - negative)
    return functional.softplus(pulled.logsumexp(1) + pushed.logsumexp(1)).mean()


def masked_center(rows: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """The common re-implementations' form: distances to all centres, all but one of each row masked away."""
    count, classes = len(rows), len(centers)
    squared = (
        rows.square().sum(1, keepdim=True) + centers.square().sum(1)[None] - 2 * rows @ centers.T
    )
    mask = labels[:, None].expand(count, classes).eq(torch.arange(classes).expand(count, classes))
    return (squared * mask.float()).clamp(min=1e-12, max=1e12).sum() / count


def looped_center(rows: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """The strong baselines' form: all distances, then a loop over rows that takes one of each."""
    squared = (
        rows.square().sum(1, keepdim=True) + centers.square().sum(1)[None] - 2 * rows @ centers.T
    )
    mask = labels[:, None] == torch.arange(len(centers))
    return torch.cat(
        [squared[i][mask[i]].clamp(min=1e-12, max=1e12) for i in range(len(rows))]
    ).mean()


def fresh(centers: Tensor, work: Work) -> Work:
    """A step that begins without a gradient of the centres, as one after ``zero_grad``."""

    def run() -> None:
        centers.grad = None
        work()

    return run


def hardest_floor(rows: Tensor) -> Work:
    """One product, forward only."""

    def work() -> None:
        rows @ rows.T

    return work


def contenders(batch: int) -> dict[str, dict[str, Work]]:
    """Cases at one batch size, each with its contenders."""
    rows = torch.randn(batch, DIM, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(batch) // INSTANCES
    euclidean = distances.LpDistance(normalize_embeddings=False)
    mine, peer = (
        miners.BatchHardMiner(distance=euclidean),
        losses.TripletMarginLoss(margin=0.3, distance=euclidean, reducer=reducers.MeanReducer()),
    )
    similar, similarity = (
        miners.MultiSimilarityMiner(epsilon=0.1),
        losses.MultiSimilarityLoss(2, 50, 0.5),
    )
    circle, every = (
        losses.CircleLoss(m=0.25, gamma=128),
        losses.TripletMarginLoss(margin=0.3, distance=euclidean),
    )
    triplet, center = TripletLoss(), CenterLoss(DIM, IDENTITIES)
    mined = {name: TripletLoss(mining=name) for name in ("semi_hard", "all")}
    soft, weighted, ours_circle, ours_similarity = (
        TripletLoss(None, mining="all"),
        WeightedTripletLoss(),
        CircleLoss(scale=128.0),
        MultiSimilarityLoss(),
    )
    peer_soft = losses.TripletMarginLoss(
        margin=0.0, smooth_loss=True, distance=euclidean, reducer=reducers.MeanReducer()
    )
    semi = miners.TripletMarginMiner(margin=0.3, type_of_triplets="semihard", distance=euclidean)
    centers = torch.randn(IDENTITIES, DIM, requires_grad=True)
    dense, sparse = CenterLoss(DIM, 100_000), CenterLoss(DIM, 100_000, sparse_grad=True)
    cases = {
        "triplet, batch-hard": {
            OURS: step(rows, lambda r: triplet(r, labels)),
            "floor": hardest_floor(rows),
            "CLIP-ReID's algorithm": step(rows, lambda r: clip_reid_triplet(r, labels)),
            "fast-reid's algorithm": step(rows, lambda r: fast_reid_triplet(r, labels)),
            PEER: step(rows, lambda r: peer(r, labels, mine(r, labels))),
        },
        "triplet, semi-hard": {
            OURS: step(rows, lambda r: mined["semi_hard"](r, labels)),
            "floor": floor(rows, batch),
        },
        "triplet, all": {
            OURS: step(rows, lambda r: mined["all"](r, labels)),
            "floor": floor(rows, batch),
        },
        "triplet, all, soft margin": {
            OURS: step(rows, lambda r: soft(r, labels)),
            "floor": floor(rows, batch),
        },
        "weighted triplet": {
            OURS: step(rows, lambda r: weighted(r, labels)),
            "floor": floor(rows, batch),
            "fast-reid's algorithm": step(rows, lambda r: fast_reid_weighted(r, labels)),
        },
        "circle": {
            OURS: step(rows, lambda r: ours_circle(r, labels)),
            "floor": floor(rows, batch),
            "fast-reid's algorithm": step(rows, lambda r: fast_reid_circle(r, labels)),
            PEER: step(rows, lambda r: circle(r, labels)),
        },
        "multi-similarity": {
            OURS: step(rows, lambda r: ours_similarity(r, labels)),
            "floor": floor(rows, batch),
            PEER: step(rows, lambda r: similarity(r, labels, similar(r, labels))),
        },
        f"center, C = {IDENTITIES}": {
            OURS: fresh(center.centers, step(rows, lambda r: center(r, labels % IDENTITIES))),
            "all centres, masked": fresh(
                centers, step(rows, lambda r: masked_center(r, labels % IDENTITIES, centers))
            ),
        },
        "center, C = 100 000": {
            OURS: fresh(sparse.centers, step(rows, lambda r: sparse(r, labels))),
            "dense gradient": fresh(dense.centers, step(rows, lambda r: dense(r, labels))),
        },
    }
    if batch <= 512:  # beyond, seconds and gigabytes
        cases[f"center, C = {IDENTITIES}"]["all centres, a loop over rows"] = fresh(
            centers, step(rows, lambda r: looped_center(r, labels % IDENTITIES, centers))
        )
        cases["triplet, batch-hard"]["torchreid's algorithm"] = step(
            rows, lambda r: torchreid_triplet(r, labels)
        )
        cases["triplet, semi-hard"][PEER] = step(rows, lambda r: peer(r, labels, semi(r, labels)))
        cases["triplet, all"][PEER] = step(rows, lambda r: every(r, labels))
        cases["triplet, all, soft margin"][PEER] = step(rows, lambda r: peer_soft(r, labels))
    return cases

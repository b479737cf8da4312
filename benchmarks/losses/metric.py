"""Metric losses against pytorch-metric-learning and three restated algorithms.

Those of CLIP-ReID, fast-reid and torchreid are restated from their formulas in a few lines each.
"floor" is the matrix product that choosing the hardest pairs cannot avoid, or the three (one
forward, two backward) of a loss of all pairs.
"""

from collections.abc import Callable

import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.losses.step import floor, seeded, step
from benchmarks.measure import OURS, Work
from clipreid_kit import (
    CenterLoss,
    CircleLoss,
    MultiSimilarityLoss,
    RecallSurrogateLoss,
    SmoothAPLoss,
    TripletLoss,
    WeightedTripletLoss,
)
from clipreid_kit.losses.recall_surrogate import recall_surrogate_definition
from clipreid_kit.losses.smooth_ap import smooth_ap_definition

DIM = 512
INSTANCES = 4
IDENTITIES = 1051
PEER = "pytorch-metric-learning"
MOST_ROWS_OF_TRIPLES = 256


def matrix(rows: Tensor, other: Tensor) -> Tensor:
    """Euclidean distances as in CLIP-ReID and fast-reid: |a|^2 + |b|^2 - 2ab, clamped, rooted."""
    squared = rows.square().sum(1, keepdim=True) + other.square().sum(1)[None]
    return (squared - 2 * rows @ other.T).clamp(min=1e-12).sqrt()


def ranking(negative: Tensor, positive: Tensor) -> Tensor:
    """Hinge of margin 0.3, as in all three."""
    return functional.margin_ranking_loss(negative, positive, torch.ones_like(positive), margin=0.3)


def clip_reid_triplet(rows: Tensor, labels: Tensor) -> Tensor:
    """Identities of one size: masked entries in a table, then its extremes."""
    distance = matrix(rows, rows)
    count = len(rows)
    same = labels.expand(count, count).eq(labels.expand(count, count).T)
    positive = distance[same].contiguous().view(count, -1).max(1).values
    negative = distance[~same].contiguous().view(count, -1).min(1).values

    return ranking(negative, positive)


def fast_reid_triplet(rows: Tensor, labels: Tensor) -> Tensor:
    """Masks as numbers, and a large constant on the positives for the nearest negative."""
    distance = matrix(rows, rows)
    same = (labels[:, None] == labels[None]).float()
    different = 1 - same
    positive = (distance * same).max(1).values
    negative = (distance * different + same * 1e9).min(1).values

    return ranking(negative, positive)


def torchreid_triplet(rows: Tensor, labels: Tensor) -> Tensor:
    """A loop over anchors."""
    distance = matrix(rows, rows)
    same = labels[:, None] == labels[None]
    positive = torch.stack([distance[i][same[i]].max() for i in range(len(rows))])
    negative = torch.stack([distance[i][~same[i]].min() for i in range(len(rows))])

    return ranking(negative, positive)


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
    positive = same - torch.eye(len(rows))
    negative = 1 - same

    near = similarity * positive
    far = similarity * negative
    pull = (1.25 - near.detach()).clamp(min=0)
    push = (far.detach() + 0.25).clamp(min=0)
    pulled = -128 * pull * (near - 0.75) - 99999999.0 * (1 - positive)
    pushed = 128 * push * (far - 0.25) - 99999999.0 * (1 - negative)

    return functional.softplus(pulled.logsumexp(1) + pushed.logsumexp(1)).mean()


def masked_center(rows: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """As in common re-implementations: distances to all centers, of which a mask keeps one."""
    count = len(rows)
    classes = len(centers)
    squared = (
        rows.square().sum(1, keepdim=True) + centers.square().sum(1)[None] - 2 * rows @ centers.T
    )
    mask = labels[:, None].expand(count, classes).eq(torch.arange(classes).expand(count, classes))
    return (squared * mask.float()).clamp(min=1e-12, max=1e12).sum() / count


def looped_center(rows: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """As in the strong baselines: all distances, then a loop over rows that takes one of each."""
    squared = (
        rows.square().sum(1, keepdim=True) + centers.square().sum(1)[None] - 2 * rows @ centers.T
    )
    mask = labels[:, None] == torch.arange(len(centers))
    return torch.cat(
        [squared[i][mask[i]].clamp(min=1e-12, max=1e12) for i in range(len(rows))]
    ).mean()


def fresh(centers: Tensor, work: Work) -> Work:
    """A step that begins without a gradient of the centers, as one after ``zero_grad``."""

    def run() -> None:
        centers.grad = None
        work()

    return run


def hardest_floor(rows: Tensor) -> Work:
    """One product, forward only."""

    def work() -> None:
        rows @ rows.T

    return work


EUCLIDEAN = distances.LpDistance(normalize_embeddings=False)


def contenders(batch: int) -> dict[str, dict[str, Work]]:
    """Cases at one batch size, each with its contenders."""
    rows = torch.randn(batch, DIM, generator=seeded(0))
    labels = torch.arange(batch) // INSTANCES

    # Beyond 512 rows these take seconds and gigabytes.
    with_slow_peers = batch <= 512

    return {
        "triplet, batch-hard": hardest_triplet(rows, labels, with_slow_peers),
        "triplet, semi-hard": semi_hard_triplet(rows, labels, with_slow_peers),
        "triplet, all": all_triplets(rows, labels, with_slow_peers),
        "triplet, all, soft margin": all_triplets_soft(rows, labels, with_slow_peers),
        "weighted triplet": weighted_triplet(rows, labels),
        "circle": circle(rows, labels),
        "multi-similarity": multi_similarity(rows, labels),
        "Smooth-AP": smooth_ranks(rows, labels, SmoothAPLoss(), smooth_ap_definition),
        "Recall@k": smooth_ranks(rows, labels, RecallSurrogateLoss(), recall_surrogate_definition),
        f"center, C = {IDENTITIES}": center(rows, labels % IDENTITIES, with_slow_peers),
        "center, C = 100 000": center_of_many(rows, labels),
    }


def smooth_ranks(
    rows: Tensor, labels: Tensor, ours: nn.Module, definition: Callable[..., Tensor]
) -> dict[str, Work]:
    """A loss of ranks, against its formula over all triples of rows."""
    case = {OURS: step(rows, lambda r: ours(r, labels)), "floor": floor(rows, len(rows))}
    if len(rows) <= MOST_ROWS_OF_TRIPLES:
        case["the formula"] = step(rows, lambda r: definition(r, labels))

    return case


def hardest_triplet(rows: Tensor, labels: Tensor, with_slow_peers: bool) -> dict[str, Work]:
    ours = TripletLoss()
    miner = miners.BatchHardMiner(distance=EUCLIDEAN)
    peer = losses.TripletMarginLoss(margin=0.3, distance=EUCLIDEAN, reducer=reducers.MeanReducer())

    case = {
        OURS: step(rows, lambda r: ours(r, labels)),
        "floor": hardest_floor(rows),
        "CLIP-ReID's algorithm": step(rows, lambda r: clip_reid_triplet(r, labels)),
        "fast-reid's algorithm": step(rows, lambda r: fast_reid_triplet(r, labels)),
        PEER: step(rows, lambda r: peer(r, labels, miner(r, labels))),
    }
    if with_slow_peers:
        case["torchreid's algorithm"] = step(rows, lambda r: torchreid_triplet(r, labels))

    return case


def semi_hard_triplet(rows: Tensor, labels: Tensor, with_slow_peers: bool) -> dict[str, Work]:
    ours = TripletLoss(mining="semi_hard")
    miner = miners.TripletMarginMiner(margin=0.3, type_of_triplets="semihard", distance=EUCLIDEAN)
    peer = losses.TripletMarginLoss(margin=0.3, distance=EUCLIDEAN, reducer=reducers.MeanReducer())

    case = {OURS: step(rows, lambda r: ours(r, labels)), "floor": floor(rows, len(rows))}
    if with_slow_peers:
        case[PEER] = step(rows, lambda r: peer(r, labels, miner(r, labels)))

    return case


def all_triplets(rows: Tensor, labels: Tensor, with_slow_peers: bool) -> dict[str, Work]:
    ours = TripletLoss(mining="all")
    peer = losses.TripletMarginLoss(margin=0.3, distance=EUCLIDEAN)

    case = {OURS: step(rows, lambda r: ours(r, labels)), "floor": floor(rows, len(rows))}
    if with_slow_peers:
        case[PEER] = step(rows, lambda r: peer(r, labels))

    return case


def all_triplets_soft(rows: Tensor, labels: Tensor, with_slow_peers: bool) -> dict[str, Work]:
    ours = TripletLoss(None, mining="all")
    peer = losses.TripletMarginLoss(
        margin=0.0, smooth_loss=True, distance=EUCLIDEAN, reducer=reducers.MeanReducer()
    )

    case = {OURS: step(rows, lambda r: ours(r, labels)), "floor": floor(rows, len(rows))}
    if with_slow_peers:
        case[PEER] = step(rows, lambda r: peer(r, labels))

    return case


def weighted_triplet(rows: Tensor, labels: Tensor) -> dict[str, Work]:
    ours = WeightedTripletLoss()

    return {
        OURS: step(rows, lambda r: ours(r, labels)),
        "floor": floor(rows, len(rows)),
        "fast-reid's algorithm": step(rows, lambda r: fast_reid_weighted(r, labels)),
    }


def circle(rows: Tensor, labels: Tensor) -> dict[str, Work]:
    ours = CircleLoss(scale=128.0)
    peer = losses.CircleLoss(m=0.25, gamma=128)

    return {
        OURS: step(rows, lambda r: ours(r, labels)),
        "floor": floor(rows, len(rows)),
        "fast-reid's algorithm": step(rows, lambda r: fast_reid_circle(r, labels)),
        PEER: step(rows, lambda r: peer(r, labels)),
    }


def multi_similarity(rows: Tensor, labels: Tensor) -> dict[str, Work]:
    ours = MultiSimilarityLoss()
    miner = miners.MultiSimilarityMiner(epsilon=0.1)
    peer = losses.MultiSimilarityLoss(2, 50, 0.5)

    return {
        OURS: step(rows, lambda r: ours(r, labels)),
        "floor": floor(rows, len(rows)),
        PEER: step(rows, lambda r: peer(r, labels, miner(r, labels))),
    }


def center(rows: Tensor, labels: Tensor, with_slow_peers: bool) -> dict[str, Work]:
    ours = CenterLoss(DIM, IDENTITIES)
    centers = torch.randn(IDENTITIES, DIM, requires_grad=True)

    masked = step(rows, lambda r: masked_center(r, labels, centers))
    case = {
        OURS: fresh(ours.centers, step(rows, lambda r: ours(r, labels))),
        "all centers, masked": fresh(centers, masked),
    }
    if with_slow_peers:
        looped = step(rows, lambda r: looped_center(r, labels, centers))
        case["all centers, a loop over rows"] = fresh(centers, looped)

    return case


def center_of_many(rows: Tensor, labels: Tensor) -> dict[str, Work]:
    dense = CenterLoss(DIM, 100_000)
    sparse = CenterLoss(DIM, 100_000, sparse_grad=True)

    return {
        OURS: fresh(sparse.centers, step(rows, lambda r: sparse(r, labels))),
        "dense gradient": fresh(dense.centers, step(rows, lambda r: dense(r, labels))),
    }

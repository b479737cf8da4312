"""Classification heads against pytorch-metric-learning, and against the algorithms of CLIP-ReID and fast-reid.

The last two are restated from their formulas in a few lines each. "floor" is the matrix products that no head can
avoid: one forward, two backward. A hundred thousand identities are left out beyond 512 rows: a peer holds several
matrices of rows x identities.
"""

import math
from collections.abc import Callable

import torch
from pytorch_metric_learning import losses
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.losses.step import floor, step
from benchmarks.measure import OURS, Work
from clipreid_kit import ArcFaceHead, ArcFaceLoss, CosFaceLoss, ProxyAnchorLoss

DIM = 512
PEER = "pytorch-metric-learning"


def clip_reid(rows: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Sine by a clamped root for every column, then a one-hot matrix mixes both."""
    cosine = functional.linear(functional.normalize(rows), functional.normalize(weight))
    sine = (1 - cosine.square()).clamp(0, 1).sqrt()
    turned = cosine * math.cos(0.5) - sine * math.sin(0.5)
    turned = torch.where(
        cosine > math.cos(math.pi - 0.5), turned, cosine - math.sin(math.pi - 0.5) * 0.5
    )
    hot = torch.zeros_like(cosine).scatter_(1, labels[:, None], 1)
    return functional.cross_entropy(30 * (hot * turned + (1 - hot) * cosine), labels)


def fast_reid(rows: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """The angle of every column by acos, a matrix of margins added, and the cosine again."""
    cosine = functional.linear(functional.normalize(rows), functional.normalize(weight))
    hot = torch.zeros_like(cosine).scatter_(1, labels[:, None], 0.5)
    return functional.cross_entropy(
        (cosine.clamp(-1 + 1e-7, 1 - 1e-7).acos() + hot).cos() * 30, labels
    )


def fast_reid_cosine(rows: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """A matrix of margins taken off."""
    cosine = functional.linear(functional.normalize(rows), functional.normalize(weight))
    hot = torch.zeros_like(cosine).scatter_(1, labels[:, None], 0.35)
    return functional.cross_entropy((cosine - hot) * 30, labels)


def contenders(batch: int) -> dict[str, dict[str, Work]]:
    """Cases at one batch size, each with its contenders."""
    rows = torch.randn(batch, DIM, generator=torch.Generator().manual_seed(0))
    cases: dict[str, dict[str, Work]] = {}
    for identities in (10_000, 100_000) if batch <= 512 else (10_000,):
        labels = torch.randint(identities, (batch,), generator=torch.Generator().manual_seed(1))
        cases |= {
            f"{name}, C = {identities:,}": case
            for name, case in _cases(rows, labels, identities).items()
        }
    return cases


def _cases(rows: Tensor, labels: Tensor, identities: int) -> dict[str, dict[str, Work]]:
    def module(make: Callable[[], nn.Module]) -> Work:
        return _Step(make, lambda loss: step(rows, lambda r: loss(r, labels)))

    def restated(algorithm: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Work:
        return _Step(
            lambda: nn.Linear(DIM, identities, bias=False),
            lambda held: step(rows, lambda r: algorithm(r, held.weight, labels)),
        )

    degrees = math.degrees(0.5)
    arcface = module(lambda: ArcFaceLoss(DIM, identities))
    cases: dict[str, dict[str, Work]] = {
        "ArcFace": {
            OURS: arcface,
            "floor": floor(rows, identities),
            "ArcFaceHead and cross_entropy": _Step(
                lambda: ArcFaceHead(DIM, identities),
                lambda head: step(
                    rows, lambda r: functional.cross_entropy(head(r, labels), labels)
                ),
            ),
            PEER: module(lambda: losses.ArcFaceLoss(identities, DIM, margin=degrees, scale=30)),
            "CLIP-ReID's algorithm": restated(clip_reid),
            "fast-reid's algorithm": restated(fast_reid),
        },
        "CosFace": {
            OURS: module(lambda: CosFaceLoss(DIM, identities)),
            "floor": floor(rows, identities),
            PEER: module(lambda: losses.CosFaceLoss(identities, DIM, margin=0.35, scale=30)),
            "fast-reid's algorithm": restated(fast_reid_cosine),
        },
        "Proxy-Anchor": {
            OURS: module(lambda: ProxyAnchorLoss(DIM, identities)),
            "floor": floor(rows, identities),
            PEER: module(lambda: losses.ProxyAnchorLoss(identities, DIM)),
        },
    }
    if identities == 10_000:
        cases["ArcFace of 3 centres"] = {
            OURS: module(lambda: ArcFaceLoss(DIM, identities, num_centers=3)),
            "floor": floor(rows, 3 * identities),
            PEER: module(
                lambda: losses.SubCenterArcFaceLoss(
                    num_classes=identities,
                    embedding_size=DIM,
                    margin=degrees,
                    scale=30,
                    sub_centers=3,
                )
            ),
        }
    else:
        tenth = identities // 10
        cases["ArcFace of a sampled tenth"] = {
            OURS: module(lambda: ArcFaceLoss(DIM, identities, num_sampled=tenth)),
            "sparse gradient": module(
                lambda: ArcFaceLoss(DIM, identities, num_sampled=tenth, sparse_grad=True)
            ),
            "all identities": arcface,
        }
    return cases


class _Step:
    """A step that begins without a gradient of the weight, as one after ``zero_grad``; made at its first call."""

    def __init__(self, make: Callable[[], nn.Module], work: Callable[[nn.Module], Work]) -> None:
        self.make, self.work = make, work
        self.held: tuple[nn.Module, Work] | None = None

    def __call__(self) -> None:
        if self.held is None:
            module = self.make()
            self.held = module, self.work(module)
        self.held[1]()
        self.held[0].zero_grad()

"""Classification heads against pytorch-metric-learning and two restated algorithms.

Those of CLIP-ReID and fast-reid are restated from their formulas in a few lines each. "floor" is
the matrix products that no head can avoid: one forward, two backward. A hundred thousand identities
are left out beyond 512 rows, because a peer holds several matrices of rows x identities.
"""

import math
from collections.abc import Callable

import torch
from pytorch_metric_learning import losses
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.losses.step import floor, seeded, step
from benchmarks.measure import OURS, Work
from clipreid_kit import (
    ArcFaceHead,
    ArcFaceLoss,
    CircleSoftmaxHead,
    CosFaceLoss,
    PartialFCLoss,
    ProxyAnchorLoss,
    identity_loss,
)

DIM = 512
PEER = "pytorch-metric-learning"


def clip_reid(rows: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Sine by a clamped root for every column, then a one-hot matrix mixes both."""
    cosine = functional.linear(functional.normalize(rows), functional.normalize(weight))
    sine = (1 - cosine.square()).clamp(0, 1).sqrt()
    turned = cosine * math.cos(0.5) - sine * math.sin(0.5)
    beyond = cosine - math.sin(math.pi - 0.5) * 0.5
    turned = torch.where(cosine > math.cos(math.pi - 0.5), turned, beyond)

    hot = torch.zeros_like(cosine).scatter_(1, labels[:, None], 1)
    return functional.cross_entropy(30 * (hot * turned + (1 - hot) * cosine), labels)


def fast_reid(rows: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """The angle of every column by acos, a matrix of margins added, and the cosine again."""
    cosine = functional.linear(functional.normalize(rows), functional.normalize(weight))
    hot = torch.zeros_like(cosine).scatter_(1, labels[:, None], 0.5)
    angle = cosine.clamp(-1 + 1e-7, 1 - 1e-7).acos()
    return functional.cross_entropy((angle + hot).cos() * 30, labels)


def fast_reid_cosine(rows: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """A matrix of margins is subtracted."""
    cosine = functional.linear(functional.normalize(rows), functional.normalize(weight))
    hot = torch.zeros_like(cosine).scatter_(1, labels[:, None], 0.35)
    return functional.cross_entropy((cosine - hot) * 30, labels)


def fast_reid_circle(rows: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Both factors for every column, mixed by a one-hot matrix."""
    cosine = functional.linear(functional.normalize(rows), functional.normalize(weight))
    pull = (1.25 - cosine.detach()).clamp(min=0)
    push = (cosine.detach() + 0.25).clamp(min=0)

    hot = torch.zeros_like(cosine).scatter_(1, labels[:, None], 1)
    target, others = 256 * pull * (cosine - 0.75), 256 * push * (cosine - 0.25)
    return functional.cross_entropy(hot * target + (1 - hot) * others, labels)


def contenders(batch: int) -> dict[str, dict[str, Work]]:
    """Cases at one batch size, each with its contenders."""
    rows = torch.randn(batch, DIM, generator=seeded(0))
    cases: dict[str, dict[str, Work]] = {}

    for num_identities in (10_000, 100_000) if batch <= 512 else (10_000,):
        generator = seeded(1)
        labels = torch.randint(num_identities, (batch,), generator=generator)
        heads = Heads(rows, labels, num_identities)

        for name, case in heads.cases().items():
            cases[f"{name}, C = {num_identities:,}"] = case

    return cases


class Heads:
    """Cases of one batch with one number of identities."""

    def __init__(self, rows: Tensor, labels: Tensor, num_identities: int) -> None:
        self.rows = rows
        self.labels = labels
        self.num_identities = num_identities

    def module(self, construct: Callable[[], nn.Module]) -> Work:
        """Step of a loss module."""
        return LazyStep(construct, lambda loss: step(self.rows, lambda r: loss(r, self.labels)))

    def restated(self, algorithm: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Work:
        """Step of a function of rows, weight and labels."""
        return LazyStep(
            lambda: nn.Linear(DIM, self.num_identities, bias=False),
            lambda held: step(self.rows, lambda r: algorithm(r, held.weight, self.labels)),
        )

    def cases(self) -> dict[str, dict[str, Work]]:
        """All cases, each with its contenders."""
        cases = {
            "ArcFace": self.arcface(),
            "CosFace": self.cosface(),
            "Circle-softmax": self.circle_softmax(),
            "Proxy-Anchor": self.proxy_anchor(),
        }

        if self.num_identities == 10_000:
            cases["ArcFace of 3 centers"] = self.arcface_of_centers()
        else:
            cases["ArcFace of a sampled tenth"] = self.arcface_of_a_sample()

        return cases

    def arcface(self) -> dict[str, Work]:
        count = self.num_identities
        degrees = math.degrees(0.5)

        def head_and_cross_entropy(head: nn.Module) -> Work:
            labels = self.labels
            return step(self.rows, lambda r: functional.cross_entropy(head(r, labels), labels))

        return {
            OURS: self.module(lambda: ArcFaceLoss(DIM, count)),
            "floor": floor(self.rows, count),
            "PartialFCLoss of one process": self.module(lambda: PartialFCLoss(DIM, count)),
            "ArcFaceHead and cross_entropy": LazyStep(
                lambda: ArcFaceHead(DIM, count), head_and_cross_entropy
            ),
            PEER: self.module(lambda: losses.ArcFaceLoss(count, DIM, margin=degrees, scale=30)),
            "CLIP-ReID's algorithm": self.restated(clip_reid),
            "fast-reid's algorithm": self.restated(fast_reid),
        }

    def cosface(self) -> dict[str, Work]:
        count = self.num_identities

        return {
            OURS: self.module(lambda: CosFaceLoss(DIM, count)),
            "floor": floor(self.rows, count),
            PEER: self.module(lambda: losses.CosFaceLoss(count, DIM, margin=0.35, scale=30)),
            "fast-reid's algorithm": self.restated(fast_reid_cosine),
        }

    def circle_softmax(self) -> dict[str, Work]:
        count = self.num_identities

        def head_and_identity_loss(head: nn.Module) -> Work:
            labels = self.labels
            return step(self.rows, lambda r: identity_loss(head(r, labels), labels))

        return {
            OURS: LazyStep(lambda: CircleSoftmaxHead(DIM, count), head_and_identity_loss),
            "floor": floor(self.rows, count),
            "fast-reid's algorithm": self.restated(fast_reid_circle),
        }

    def proxy_anchor(self) -> dict[str, Work]:
        count = self.num_identities

        return {
            OURS: self.module(lambda: ProxyAnchorLoss(DIM, count)),
            "floor": floor(self.rows, count),
            PEER: self.module(lambda: losses.ProxyAnchorLoss(count, DIM)),
        }

    def arcface_of_centers(self) -> dict[str, Work]:
        count = self.num_identities

        def peer() -> nn.Module:
            module: nn.Module = losses.SubCenterArcFaceLoss(
                num_classes=count,
                embedding_size=DIM,
                margin=math.degrees(0.5),
                scale=30,
                sub_centers=3,
            )
            return module

        return {
            OURS: self.module(lambda: ArcFaceLoss(DIM, count, num_centers=3)),
            "floor": floor(self.rows, 3 * count),
            PEER: self.module(peer),
        }

    def arcface_of_a_sample(self) -> dict[str, Work]:
        count = self.num_identities
        tenth = count // 10

        def with_sparse_gradient() -> nn.Module:
            return ArcFaceLoss(DIM, count, num_sampled=tenth, sparse_grad=True)

        return {
            OURS: self.module(lambda: ArcFaceLoss(DIM, count, num_sampled=tenth)),
            "sparse gradient": self.module(with_sparse_gradient),
            "all identities": self.module(lambda: ArcFaceLoss(DIM, count)),
        }


class LazyStep:
    """A step that begins without a gradient of the weight, as after ``zero_grad``.

    The module is constructed at the first call.
    """

    def __init__(
        self, construct: Callable[[], nn.Module], work: Callable[[nn.Module], Work]
    ) -> None:
        self._construct = construct
        self._work = work
        self._held: tuple[nn.Module, Work] | None = None

    def __call__(self) -> None:
        if self._held is None:
            module = self._construct()
            self._held = module, self._work(module)

        module, work = self._held
        work()
        module.zero_grad()

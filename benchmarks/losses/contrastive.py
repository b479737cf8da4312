"""SupCon, InfoNCE, SigLIP and hard negatives against installed peers and restated algorithms.

``floor`` is the matrix products alone, as a loss with a matrix of all pairs needs them: one
forward, two backward. For batches above 8192 only our losses and the floor are run: the others
would hold several matrices of a gigabyte and more.
"""

from collections.abc import Callable

import torch
from open_clip.loss import ClipLoss, SigLipLoss
from pytorch_metric_learning import losses
from torch import Tensor
from torch.nn import functional

from benchmarks.losses.step import floor, seeded, step
from benchmarks.measure import OURS, Work
from clipreid_kit import (
    CMPCLoss,
    CMPMLoss,
    HardNegativeContrastiveLoss,
    InfoNCELoss,
    SDMLoss,
    SigLIPLoss,
    SupConLoss,
    TripletAlignmentLoss,
)
from clipreid_kit.losses.cmpm import cmpm_definition
from clipreid_kit.losses.sdm import sdm_definition
from clipreid_kit.losses.triplet_alignment import triplet_alignment_definition

DIM = 512
INSTANCES = 4
LARGEST_PEER = 8192

Pairs = Callable[[Tensor, Tensor], Tensor]


def clip_reid_supcon(
    anchors: Tensor, labels: Tensor, candidates: Tensor, candidate_labels: Tensor
) -> Tensor:
    """SupCon of CLIP-ReID's stage 1, from its paper and code: temperature 1, unnormalised rows.

    Ours normalises the rows, which takes a good part of the time at B = 64; with ``unit rows`` the
    restated one does, too.
    """
    mask = torch.eq(labels[:, None], candidate_labels[None, :]).float()

    logits = anchors @ candidates.T
    logits = logits - logits.max(dim=1, keepdim=True).values.detach()
    log_prob = logits - logits.exp().sum(dim=1, keepdim=True).log()

    return -((mask * log_prob).sum(dim=1) / mask.sum(dim=1)).mean()


def dense_hard_negatives(images: Tensor, texts: Tensor) -> Tensor:
    """InfoNCE and a hinge of 0.5 on the three hardest negatives each way, on the whole matrix."""
    cosine = functional.normalize(images, dim=1) @ functional.normalize(texts, dim=1).T

    pair = torch.arange(len(images))
    logits = cosine / 0.07
    image_to_text = functional.cross_entropy(logits, pair)
    text_to_image = functional.cross_entropy(logits.T, pair)

    negative = cosine.masked_fill(torch.eye(len(images), dtype=torch.bool), -torch.inf)
    hinges = [(negative.topk(3, dim=dim).values - 0.5).relu().mean() for dim in (0, 1)]

    return (image_to_text + text_to_image) / 2 + sum(hinges) / 2


class Batch:
    """Images, texts and labels of one size, and the steps of losses on them."""

    def __init__(self, batch: int) -> None:
        generator = seeded(0)
        self.size = batch
        self.images = torch.randn(batch, DIM, generator=generator)
        texts = self.images.roll(1, 0) + torch.randn(batch, DIM, generator=generator)
        self.both = torch.cat([self.images, texts])
        self.labels = torch.arange(batch) // INSTANCES
        self.floor = floor(self.images, batch)

    def rows(self, loss: Callable[[Tensor], Tensor]) -> Work:
        """Step of a loss of the images alone."""
        return step(self.images, loss)

    def pairs(self, loss: Pairs) -> Work:
        """Step of a loss of images and texts."""
        return step(self.both, lambda rows: loss(rows[: self.size], rows[self.size :]))

    def unit_pairs(self, loss: Pairs) -> Work:
        """Step of a loss of images and texts that expects unit rows."""

        def normalised(images: Tensor, texts: Tensor) -> Tensor:
            return loss(functional.normalize(images, dim=1), functional.normalize(texts, dim=1))

        return self.pairs(normalised)

    def case(self, ours: Work, peers: dict[str, Work]) -> dict[str, Work]:
        """Contenders of a case; above the largest batch of the peers only ours and the floor."""
        if self.size > LARGEST_PEER:
            peers = {}
        return {OURS: ours, **peers, "floor: three products": self.floor}


def contenders(batch: int) -> dict[str, dict[str, Work]]:
    """Cases at one batch size, each with its contenders."""
    data = Batch(batch)

    return {
        "SupCon, one modality": supcon_one_modality(data),
        "SupCon, image to text": supcon_image_to_text(data),
        "InfoNCE": info_nce(data),
        "SigLIP": siglip(data),
        "InfoNCE with hard negatives": hard_negatives(data),
        "SDM": sdm(data),
        "Triplet alignment": triplet_alignment(data),
        "CMPM": cmpm(data),
        "CMPM and CMPC, C = 1,000": cmpm_and_cmpc(data),
        "SDM, a value for each pair": sdm_of_pairs(data),
    }


def supcon_one_modality(data: Batch) -> dict[str, Work]:
    ours = SupConLoss()
    peer = losses.SupConLoss(temperature=0.07)
    labels = data.labels

    def restated(rows: Tensor) -> Tensor:
        return clip_reid_supcon(rows, labels, rows, labels)

    def restated_unit(rows: Tensor) -> Tensor:
        return restated(functional.normalize(rows, dim=1))

    peers = {
        "pytorch-metric-learning": data.rows(lambda rows: peer(rows, labels)),
        "CLIP-ReID, restated": data.rows(restated),
        "CLIP-ReID, restated, unit rows": data.rows(restated_unit),
    }
    return data.case(data.rows(lambda rows: ours(rows, labels)), peers)


def supcon_image_to_text(data: Batch) -> dict[str, Work]:
    loss = SupConLoss()
    peer = losses.SupConLoss(temperature=0.07)
    labels = data.labels

    def ours(images: Tensor, texts: Tensor) -> Tensor:
        return loss(images, labels, texts, labels)

    def of_peer(images: Tensor, texts: Tensor) -> Tensor:
        return peer(images, labels, ref_emb=texts, ref_labels=labels.clone())

    def restated(images: Tensor, texts: Tensor) -> Tensor:
        return clip_reid_supcon(images, labels, texts, labels)

    peers = {
        "pytorch-metric-learning": data.pairs(of_peer),
        "CLIP-ReID, restated": data.pairs(restated),
        "CLIP-ReID, restated, unit rows": data.unit_pairs(restated),
    }
    return data.case(data.pairs(ours), peers)


def info_nce(data: Batch) -> dict[str, Work]:
    peer = ClipLoss()
    scale = torch.tensor(1 / 0.07)
    of_peer = data.unit_pairs(lambda images, texts: peer(images, texts, scale))
    return data.case(data.pairs(InfoNCELoss()), {"open_clip ClipLoss": of_peer})


def siglip(data: Batch) -> dict[str, Work]:
    peer = SigLipLoss()
    ten = torch.tensor(10.0)
    of_peer = data.unit_pairs(lambda images, texts: peer(images, texts, ten, -ten))
    return data.case(data.pairs(SigLIPLoss(learnable=False)), {"open_clip SigLipLoss": of_peer})


def hard_negatives(data: Batch) -> dict[str, Work]:
    ours = data.pairs(HardNegativeContrastiveLoss())
    return data.case(ours, {"dense, restated": data.pairs(dense_hard_negatives)})


def sdm(data: Batch) -> dict[str, Work]:
    ours = SDMLoss()
    labels = data.labels

    def definition(images: Tensor, texts: Tensor) -> Tensor:
        return sdm_definition(images, texts, labels)

    peers = {"the formula in autograd": data.pairs(definition)}
    return data.case(data.pairs(lambda images, texts: ours(images, texts, labels)), peers)


def triplet_alignment(data: Batch) -> dict[str, Work]:
    ours = TripletAlignmentLoss()
    labels = data.labels

    def definition(images: Tensor, texts: Tensor) -> Tensor:
        return triplet_alignment_definition(images, texts, labels)

    peers = {"the formula in autograd": data.pairs(definition)}
    return data.case(data.pairs(lambda images, texts: ours(images, texts, labels)), peers)


def cmpm(data: Batch) -> dict[str, Work]:
    ours = CMPMLoss()
    labels = data.labels

    def definition(images: Tensor, texts: Tensor) -> Tensor:
        return cmpm_definition(images, texts, labels)

    peers = {"the formula in autograd": data.pairs(definition)}
    return data.case(data.pairs(lambda images, texts: ours(images, texts, labels)), peers)


def cmpm_and_cmpc(data: Batch) -> dict[str, Work]:
    matching, classes = CMPMLoss(), CMPCLoss(DIM, 1000)
    labels = data.labels % 1000

    def ours(images: Tensor, texts: Tensor) -> Tensor:
        return matching(images, texts, labels) + classes(images, texts, labels)

    return data.case(data.pairs(ours), {})


def sdm_of_pairs(data: Batch) -> dict[str, Work]:
    of_pairs, mean = SDMLoss(reduction="none"), SDMLoss()
    labels = data.labels

    def ours(images: Tensor, texts: Tensor) -> Tensor:
        return of_pairs(images, texts, labels).mean()

    peers = {"their mean": data.pairs(lambda images, texts: mean(images, texts, labels))}
    return data.case(data.pairs(ours), peers)

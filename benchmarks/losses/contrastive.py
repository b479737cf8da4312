"""SupCon, InfoNCE, SigLIP and hard negatives, against pytorch-metric-learning, open_clip and restated algorithms.

``floor`` is the matrix products alone, as a loss with a matrix of all pairs needs them: one forward, two backward. Of
batches above 8192 only our losses and the floor are run: the others would hold several matrices of a gigabyte and more.
"""

from collections.abc import Callable, Mapping

import torch
from open_clip.loss import ClipLoss, SigLipLoss
from pytorch_metric_learning import losses
from torch import Tensor
from torch.nn import functional

from benchmarks.losses.step import floor, step
from benchmarks.measure import OURS, Work
from clipreid_kit import HardNegativeContrastiveLoss, InfoNCELoss, SigLIPLoss, SupConLoss

DIM, INSTANCES, LARGEST_PEER = 512, 4, 8192

Pairs = Callable[[Tensor, Tensor], Tensor]


def clip_reid_supcon(
    anchors: Tensor, labels: Tensor, candidates: Tensor, candidate_labels: Tensor
) -> Tensor:
    """The loss of CLIP-ReID's stage 1 as its paper and code describe it: temperature 1, rows as they are.

    Ours normalises the rows, which is a good part of the time at B = 64; with ``unit rows`` the restated one does, too.
    """
    mask = torch.eq(labels[:, None], candidate_labels[None, :]).float()
    logits = anchors @ candidates.T
    logits = logits - logits.max(dim=1, keepdim=True).values.detach()
    log_prob = logits - logits.exp().sum(dim=1, keepdim=True).log()
    return -((mask * log_prob).sum(dim=1) / mask.sum(dim=1)).mean()


def dense_hard_negatives(images: Tensor, texts: Tensor) -> Tensor:
    """InfoNCE and a hinge of 0.5 on the three hardest negatives each way, on one matrix of cosines."""
    cosine = functional.normalize(images, dim=1) @ functional.normalize(texts, dim=1).T
    true = torch.arange(len(images))
    logits = cosine / 0.07
    softmax = (
        functional.cross_entropy(logits, true) + functional.cross_entropy(logits.T, true)
    ) / 2
    negative = cosine.masked_fill(torch.eye(len(images), dtype=torch.bool), -torch.inf)
    hinges = [(negative.topk(3, dim=dim).values - 0.5).relu().mean() for dim in (0, 1)]
    return softmax + sum(hinges) / 2


def contenders(batch: int) -> dict[str, dict[str, Work]]:
    """Cases at one batch size, each with its contenders."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(batch, DIM, generator=generator)
    labels = torch.arange(batch) // INSTANCES
    both = torch.cat([rows, rows.roll(1, 0) + torch.randn(batch, DIM, generator=generator)])
    supcon, pml = SupConLoss(), losses.SupConLoss(temperature=0.07)
    clip, siglip = ClipLoss(), SigLipLoss()
    scale, ten = torch.tensor(1 / 0.07), torch.tensor(10.0)
    products = floor(rows, batch)

    def pairs(loss: Pairs) -> Work:
        return step(both, lambda r: loss(r[:batch], r[batch:]))

    def unit_pairs(loss: Pairs) -> Work:
        return pairs(
            lambda i, t: loss(functional.normalize(i, dim=1), functional.normalize(t, dim=1))
        )

    def unit_supcon(r: Tensor) -> Tensor:
        unit = functional.normalize(r, dim=1)
        return clip_reid_supcon(unit, labels, unit, labels)

    def case(ours: Work, peers: Mapping[str, Work]) -> dict[str, Work]:
        return {
            OURS: ours,
            **(peers if batch <= LARGEST_PEER else {}),
            "floor: three products": products,
        }

    return {
        "SupCon, one modality": case(
            step(rows, lambda r: supcon(r, labels)),
            {
                "pytorch-metric-learning": step(rows, lambda r: pml(r, labels)),
                "CLIP-ReID, restated": step(rows, lambda r: clip_reid_supcon(r, labels, r, labels)),
                "CLIP-ReID, restated, unit rows": step(rows, unit_supcon),
            },
        ),
        "SupCon, image to text": case(
            pairs(lambda i, t: supcon(i, labels, t, labels)),
            {
                "pytorch-metric-learning": pairs(
                    lambda i, t: pml(i, labels, ref_emb=t, ref_labels=labels.clone())
                ),
                "CLIP-ReID, restated": pairs(lambda i, t: clip_reid_supcon(i, labels, t, labels)),
                "CLIP-ReID, restated, unit rows": unit_pairs(
                    lambda i, t: clip_reid_supcon(i, labels, t, labels)
                ),
            },
        ),
        "InfoNCE": case(
            pairs(InfoNCELoss()), {"open_clip ClipLoss": unit_pairs(lambda i, t: clip(i, t, scale))}
        ),
        "SigLIP": case(
            pairs(SigLIPLoss(learnable=False)),
            {"open_clip SigLipLoss": unit_pairs(lambda i, t: siglip(i, t, ten, -ten))},
        ),
        "InfoNCE with hard negatives": case(
            pairs(HardNegativeContrastiveLoss()), {"dense, restated": pairs(dense_hard_negatives)}
        ),
    }

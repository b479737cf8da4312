"""SupCon and InfoNCE against pytorch-metric-learning and open_clip."""

import torch
from open_clip.loss import ClipLoss
from pytorch_metric_learning import losses
from torch.nn import functional

from benchmarks.losses.step import step
from benchmarks.measure import OURS, Work
from clipreid_kit import InfoNCELoss, SupConLoss

DIM, INSTANCES = 512, 4


def contenders(batch: int) -> dict[str, dict[str, Work]]:
    """Cases at one batch size, each with its contenders."""
    rows = torch.randn(batch, DIM, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(batch) // INSTANCES
    texts = functional.normalize(rows.roll(1, 0) + rows, dim=1)
    supcon, peer, info_nce, clip = SupConLoss(), losses.SupConLoss(temperature=0.07), InfoNCELoss(), ClipLoss()
    scale = torch.tensor(1 / 0.07)
    return {
        "SupCon": {
            OURS: step(rows, lambda r: supcon(r, labels)),
            "pytorch-metric-learning": step(rows, lambda r: peer(r, labels)),
        },
        "InfoNCE": {
            OURS: step(rows, lambda r: info_nce(r, texts)),
            "open_clip ClipLoss": step(rows, lambda r: clip(functional.normalize(r, dim=1), texts, scale)),
        },
    }

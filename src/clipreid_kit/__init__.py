"""Components for fine-tuning CLIP-like models on re-identification and instance retrieval."""

from clipreid_kit.losses import (
    InfoNCELoss,
    SupConLoss,
    TripletLoss,
    info_nce_loss,
    supcon_loss,
    triplet_loss,
)
from clipreid_kit.metrics import ReidEvaluator, ReidResult, evaluate_reid
from clipreid_kit.modules import BNNeck, BNNeckOutput
from clipreid_kit.samplers import PKSampler
from clipreid_kit.schedulers import WarmupCosineLR, warmup_cosine_factor

__version__ = "0.1.0"

__all__ = [
    "BNNeck",
    "BNNeckOutput",
    "InfoNCELoss",
    "PKSampler",
    "ReidEvaluator",
    "ReidResult",
    "SupConLoss",
    "TripletLoss",
    "WarmupCosineLR",
    "evaluate_reid",
    "info_nce_loss",
    "supcon_loss",
    "triplet_loss",
    "warmup_cosine_factor",
]

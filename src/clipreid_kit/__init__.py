"""Components for fine-tuning CLIP-like models on re-identification and instance retrieval."""

from clipreid_kit.losses import (
    InfoNCELoss,
    SupConLoss,
    TripletLoss,
    WeightedSum,
    info_nce_loss,
    sum_losses,
    supcon_loss,
    triplet_loss,
)
from clipreid_kit.metrics import ReidResult, evaluate_reid
from clipreid_kit.modules import BNNeck, BNNeckOutput
from clipreid_kit.samplers import HardIdentitySampler, PKSampler
from clipreid_kit.schedulers import (
    WarmupCosineLR,
    WarmupMultiStepLR,
    cosine_ramp,
    linear_ramp,
    warmup_cosine_factor,
    warmup_multistep_factor,
)

__version__ = "0.1.0"

__all__ = [
    "BNNeck",
    "BNNeckOutput",
    "HardIdentitySampler",
    "InfoNCELoss",
    "PKSampler",
    "ReidResult",
    "SupConLoss",
    "TripletLoss",
    "WarmupCosineLR",
    "WarmupMultiStepLR",
    "WeightedSum",
    "cosine_ramp",
    "evaluate_reid",
    "info_nce_loss",
    "linear_ramp",
    "sum_losses",
    "supcon_loss",
    "triplet_loss",
    "warmup_cosine_factor",
    "warmup_multistep_factor",
]

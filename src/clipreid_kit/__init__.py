"""Components for fine-tuning CLIP-like models on re-identification and instance retrieval."""

from clipreid_kit.losses import (
    CenterLoss,
    CircleLoss,
    InfoNCELoss,
    MultiSimilarityLoss,
    SupConLoss,
    TripletLoss,
    WeightedTripletLoss,
    center_loss,
    circle_loss,
    info_nce_loss,
    multi_similarity_loss,
    supcon_loss,
    triplet_loss,
    weighted_triplet_loss,
)
from clipreid_kit.metrics import ReidResult, evaluate_reid
from clipreid_kit.modules import BNNeck, BNNeckOutput
from clipreid_kit.samplers import PKSampler
from clipreid_kit.schedulers import WarmupCosineLR, warmup_cosine_factor

__version__ = "0.1.0"

__all__ = [
    "BNNeck",
    "BNNeckOutput",
    "CenterLoss",
    "CircleLoss",
    "InfoNCELoss",
    "MultiSimilarityLoss",
    "PKSampler",
    "ReidResult",
    "SupConLoss",
    "TripletLoss",
    "WarmupCosineLR",
    "WeightedTripletLoss",
    "center_loss",
    "circle_loss",
    "evaluate_reid",
    "info_nce_loss",
    "multi_similarity_loss",
    "supcon_loss",
    "triplet_loss",
    "warmup_cosine_factor",
    "weighted_triplet_loss",
]

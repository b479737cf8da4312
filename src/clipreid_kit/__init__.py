"""Components for fine-tuning CLIP-like models on re-identification and instance retrieval."""

from clipreid_kit.losses import (
    ArcFaceHead,
    ArcFaceLoss,
    ClassSample,
    ClassSampler,
    CosFaceHead,
    CosFaceLoss,
    InfoNCELoss,
    ProxyAnchorLoss,
    SupConLoss,
    TripletLoss,
    arcface_logits,
    arcface_loss,
    class_rows,
    cosface_logits,
    cosface_loss,
    info_nce_loss,
    proxy_anchor_loss,
    sample_classes,
    supcon_loss,
    triplet_loss,
)
from clipreid_kit.metrics import ReidResult, evaluate_reid
from clipreid_kit.modules import BNNeck, BNNeckOutput
from clipreid_kit.samplers import PKSampler
from clipreid_kit.schedulers import WarmupCosineLR, warmup_cosine_factor

__version__ = "0.1.0"

__all__ = [
    "ArcFaceHead",
    "ArcFaceLoss",
    "BNNeck",
    "BNNeckOutput",
    "ClassSample",
    "ClassSampler",
    "CosFaceHead",
    "CosFaceLoss",
    "InfoNCELoss",
    "PKSampler",
    "ProxyAnchorLoss",
    "ReidResult",
    "SupConLoss",
    "TripletLoss",
    "WarmupCosineLR",
    "arcface_logits",
    "arcface_loss",
    "class_rows",
    "cosface_logits",
    "cosface_loss",
    "evaluate_reid",
    "info_nce_loss",
    "proxy_anchor_loss",
    "sample_classes",
    "supcon_loss",
    "triplet_loss",
    "warmup_cosine_factor",
]

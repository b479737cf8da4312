"""Components for fine-tuning CLIP-like models on re-identification and instance retrieval."""

from clipreid_kit.losses import (
    InfoNCELoss,
    SupConLoss,
    TripletLoss,
    info_nce_loss,
    supcon_loss,
    triplet_loss,
)
from clipreid_kit.metrics import (
    ConfidenceInterval,
    KReciprocalReranker,
    OpenSetResult,
    ReidResult,
    RetrievalResult,
    VerificationResult,
    bootstrap_interval,
    database_augmentation,
    evaluate_open_set,
    evaluate_reid,
    evaluate_retrieval,
    evaluate_verification,
    k_reciprocal_rerank,
    query_expansion,
)
from clipreid_kit.modules import AveragedEncoder, BNNeck, BNNeckOutput
from clipreid_kit.samplers import PKSampler
from clipreid_kit.schedulers import WarmupCosineLR, warmup_cosine_factor

__version__ = "0.1.0"

__all__ = [
    "AveragedEncoder",
    "BNNeck",
    "BNNeckOutput",
    "ConfidenceInterval",
    "InfoNCELoss",
    "KReciprocalReranker",
    "OpenSetResult",
    "PKSampler",
    "ReidResult",
    "RetrievalResult",
    "SupConLoss",
    "TripletLoss",
    "VerificationResult",
    "WarmupCosineLR",
    "bootstrap_interval",
    "database_augmentation",
    "evaluate_open_set",
    "evaluate_reid",
    "evaluate_retrieval",
    "evaluate_verification",
    "info_nce_loss",
    "k_reciprocal_rerank",
    "query_expansion",
    "supcon_loss",
    "triplet_loss",
    "warmup_cosine_factor",
]

"""Components for fine-tuning CLIP-like models on re-identification and instance retrieval."""

from clipreid_kit.losses import (
    HardNegativeContrastiveLoss,
    InfoNCELoss,
    SigLIPLoss,
    SupConLoss,
    TripletLoss,
    hard_negative_contrastive_loss,
    CachedContrastive,
    CrossBatchMemory,
    EmbeddingQueue,
    ImageToTextCELoss,
    InfoNCELoss,
    PrototypeMemoryLoss,
    SupConLoss,
    TripletLoss,
    image_to_text_ce_loss,
    info_nce_loss,
    siglip_loss,
    supcon_loss,
    triplet_loss,
)
from clipreid_kit.metrics import ReidResult, evaluate_reid
from clipreid_kit.modules import BNNeck, BNNeckOutput
from clipreid_kit.samplers import PKSampler
from clipreid_kit.schedulers import WarmupCosineLR, warmup_cosine_factor

__version__ = "0.1.0"

__all__ = [
    "BNNeck",
    "BNNeckOutput",
    "HardNegativeContrastiveLoss",
    "CachedContrastive",
    "CrossBatchMemory",
    "EmbeddingQueue",
    "ImageToTextCELoss",
    "InfoNCELoss",
    "PKSampler",
    "PrototypeMemoryLoss",
    "ReidResult",
    "SigLIPLoss",
    "SupConLoss",
    "TripletLoss",
    "WarmupCosineLR",
    "evaluate_reid",
    "hard_negative_contrastive_loss",
    "image_to_text_ce_loss",
    "info_nce_loss",
    "siglip_loss",
    "supcon_loss",
    "triplet_loss",
    "warmup_cosine_factor",
]

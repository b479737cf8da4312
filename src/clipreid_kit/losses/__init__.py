"""Losses: functions of embeddings and labels, and the Modules that hold their options."""

from clipreid_kit.losses.hard_negative import HardNegativeContrastiveLoss, hard_negative_contrastive_loss
from clipreid_kit.losses.info_nce import InfoNCELoss, info_nce_loss
from clipreid_kit.losses.siglip import SigLIPLoss, siglip_loss
from clipreid_kit.losses.cached_contrastive import CachedContrastive
from clipreid_kit.losses.cross_batch_memory import CrossBatchMemory, EmbeddingQueue
from clipreid_kit.losses.image_to_text import ImageToTextCELoss, image_to_text_ce_loss
from clipreid_kit.losses.info_nce import InfoNCELoss, info_nce_loss
from clipreid_kit.losses.prototype_memory import PrototypeMemoryLoss
from clipreid_kit.losses.supcon import SupConLoss, supcon_loss
from clipreid_kit.losses.triplet import TripletLoss, triplet_loss

__all__ = [
    "HardNegativeContrastiveLoss",
    "InfoNCELoss",
    "SigLIPLoss",
    "SupConLoss",
    "TripletLoss",
    "hard_negative_contrastive_loss",
    "CachedContrastive",
    "CrossBatchMemory",
    "EmbeddingQueue",
    "ImageToTextCELoss",
    "InfoNCELoss",
    "PrototypeMemoryLoss",
    "SupConLoss",
    "TripletLoss",
    "image_to_text_ce_loss",
    "info_nce_loss",
    "siglip_loss",
    "supcon_loss",
    "triplet_loss",
]

"""Losses: functions of embeddings and labels, and the Modules that hold their options."""

from clipreid_kit.losses.arcface import ArcFaceHead, ArcFaceLoss, arcface_logits, arcface_loss
from clipreid_kit.losses.class_sampling import ClassSample, ClassSampler, class_rows, sample_classes
from clipreid_kit.losses.cosface import CosFaceHead, CosFaceLoss, cosface_logits, cosface_loss
from clipreid_kit.losses.info_nce import InfoNCELoss, info_nce_loss
from clipreid_kit.losses.proxy_anchor import ProxyAnchorLoss, proxy_anchor_loss
from clipreid_kit.losses.supcon import SupConLoss, supcon_loss
from clipreid_kit.losses.triplet import TripletLoss, triplet_loss

__all__ = [
    "ArcFaceHead",
    "ArcFaceLoss",
    "ClassSample",
    "ClassSampler",
    "CosFaceHead",
    "CosFaceLoss",
    "InfoNCELoss",
    "ProxyAnchorLoss",
    "SupConLoss",
    "TripletLoss",
    "arcface_logits",
    "arcface_loss",
    "class_rows",
    "cosface_logits",
    "cosface_loss",
    "info_nce_loss",
    "proxy_anchor_loss",
    "sample_classes",
    "supcon_loss",
    "triplet_loss",
]

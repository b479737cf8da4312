"""Losses: functions of embeddings and labels, and the Modules that hold their options."""

from clipreid_kit.losses.info_nce import InfoNCELoss, info_nce_loss
from clipreid_kit.losses.supcon import SupConLoss, supcon_loss
from clipreid_kit.losses.triplet import TripletLoss, triplet_loss
from clipreid_kit.losses.weighted_sum import WeightedSum, sum_losses

__all__ = [
    "InfoNCELoss",
    "SupConLoss",
    "TripletLoss",
    "WeightedSum",
    "info_nce_loss",
    "sum_losses",
    "supcon_loss",
    "triplet_loss",
]

"""Mining: hard negatives and triplets from features, and data sets that show them."""

from clipreid_kit.data.mining.hard_negatives import mine_hard_negatives
from clipreid_kit.data.mining.mined_dataset import (
    MinedBatch,
    MinedDataset,
    MinedItem,
    collate_mined,
    with_anchor_column,
)
from clipreid_kit.data.mining.triplets import mine_triplets

__all__ = [
    "MinedBatch",
    "MinedDataset",
    "MinedItem",
    "collate_mined",
    "mine_hard_negatives",
    "mine_triplets",
    "with_anchor_column",
]

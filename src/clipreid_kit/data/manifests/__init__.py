"""Splits as manifests: files that list the images of each part, and the rule behind them."""

from clipreid_kit.data.manifests.hands_split import split_hands
from clipreid_kit.data.manifests.identity_split import (
    hold_out_identities,
    split_first_identities,
    split_identities,
)
from clipreid_kit.data.manifests.image_split import split_images
from clipreid_kit.data.manifests.manifest import SplitManifest, apply_split, read_split, write_split
from clipreid_kit.data.manifests.query_gallery_split import split_query_gallery
from clipreid_kit.data.manifests.query_split import split_queries
from clipreid_kit.data.manifests.time_split import split_by_time

__all__ = [
    "SplitManifest",
    "apply_split",
    "hold_out_identities",
    "read_split",
    "split_by_time",
    "split_first_identities",
    "split_hands",
    "split_identities",
    "split_images",
    "split_queries",
    "split_query_gallery",
    "write_split",
]

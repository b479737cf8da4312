"""Splits as manifests: files that say which images are in which part, by what rule and seed."""

from clipreid_kit.data.manifests.hands import split_hands
from clipreid_kit.data.manifests.identities import (
    hold_out_identities,
    split_first_identities,
    split_identities,
)
from clipreid_kit.data.manifests.images import split_images
from clipreid_kit.data.manifests.manifest import SplitManifest, apply_split, read_split, write_split
from clipreid_kit.data.manifests.queries import split_query_gallery

__all__ = [
    "SplitManifest",
    "apply_split",
    "hold_out_identities",
    "read_split",
    "split_first_identities",
    "split_hands",
    "split_identities",
    "split_images",
    "split_query_gallery",
    "write_split",
]

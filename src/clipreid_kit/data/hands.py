"""Hands pipeline: the splits of both hand data sets, and aspects of a hand in words."""

from clipreid_kit.data.manifests.hands_split import split_hands
from clipreid_kit.data.prompts.templates import spoken_aspect

__all__ = ["split_hands", "spoken_aspect"]

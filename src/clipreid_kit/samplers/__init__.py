"""Batch samplers."""

from clipreid_kit.samplers.pk import PKSampler

__all__ = [
    "PKSampler",
]

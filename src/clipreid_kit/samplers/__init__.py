"""Samplers: batches of row indices from labels alone."""

from clipreid_kit.samplers.cross_modality import CrossModalityPKSampler
from clipreid_kit.samplers.domain_pk import DomainPKSampler
from clipreid_kit.samplers.hard_identity import HardIdentitySampler
from clipreid_kit.samplers.pk import PKSampler
from clipreid_kit.samplers.tracklet import TrackletSampler

__all__ = [
    "CrossModalityPKSampler",
    "DomainPKSampler",
    "HardIdentitySampler",
    "PKSampler",
    "TrackletSampler",
]

"""Samplers: batches of row indices from labels alone."""

from clipreid_kit.samplers.domain_pk import DomainPKSampler
from clipreid_kit.samplers.hard_identity import HardIdentitySampler
from clipreid_kit.samplers.pk import PKSampler

__all__ = ["DomainPKSampler", "HardIdentitySampler", "PKSampler"]

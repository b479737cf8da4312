"""Every public sampler on the same twelve identities of two rows each."""

import torch

from clipreid_kit import (
    CrossModalityPKSampler,
    DomainPKSampler,
    HardIdentitySampler,
    PKSampler,
    TrackletSampler,
)
from clipreid_kit.samplers._pk_options import PKOptions

LABELS = torch.arange(12).repeat_interleave(2)


def pk_sampler(labels=LABELS, **options):
    return PKSampler(labels, **{"num_identities": 2, "num_instances": 2} | options)


def hard_identity_sampler(labels=LABELS, **options):
    sampler = HardIdentitySampler(labels, **{"num_identities": 2, "num_instances": 2} | options)
    sampler.update(torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), LABELS)
    return sampler


def cross_modality_sampler(labels=LABELS, **options):
    modalities = torch.arange(len(labels)) % 2
    return CrossModalityPKSampler(
        labels, modalities, **{"num_identities": 2, "num_instances": 1} | options
    )


def domain_sampler(labels=LABELS, **options):
    domains = [int(label) % 2 if isinstance(label, int) else 0 for label in labels]
    return DomainPKSampler(labels, domains, **{"num_identities": 2, "num_instances": 2} | options)


def tracklet_sampler(labels=LABELS, **options):
    options = {"num_identities": 2, "num_instances": 2, "num_frames": 1} | options
    return TrackletSampler(
        labels, torch.arange(len(labels)), num_tracklets=options.pop("num_instances"), **options
    )


BUILD = {
    "CrossModalityPKSampler": cross_modality_sampler,
    "DomainPKSampler": domain_sampler,
    "HardIdentitySampler": hard_identity_sampler,
    "PKSampler": pk_sampler,
    "TrackletSampler": tracklet_sampler,
}


def pk_options(**changes):
    """Options of one identity and one image a batch, with changes."""
    options = {"owner": "owner", "num_identities": 1, "num_instances": 1, "seed": 0}
    options |= {"coverage": "images", "if_too_few": "repeat", "rank": 0, "world_size": 1}
    return PKOptions(**options | changes)

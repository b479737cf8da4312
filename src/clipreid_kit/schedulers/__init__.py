"""Learning-rate schedules in closed form."""

from clipreid_kit.schedulers.warmup_cosine import WarmupCosineLR, warmup_cosine_factor

__all__ = [
    "WarmupCosineLR",
    "warmup_cosine_factor",
]

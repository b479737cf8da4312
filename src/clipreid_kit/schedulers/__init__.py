"""Schedules of learning rates and of loss weights, as functions of the step alone."""

from clipreid_kit.schedulers.ramps import cosine_ramp, linear_ramp
from clipreid_kit.schedulers.warmup_cosine import WarmupCosineLR, warmup_cosine_factor
from clipreid_kit.schedulers.warmup_multistep import WarmupMultiStepLR, warmup_multistep_factor

__all__ = [
    "WarmupCosineLR",
    "WarmupMultiStepLR",
    "cosine_ramp",
    "linear_ramp",
    "warmup_cosine_factor",
    "warmup_multistep_factor",
]

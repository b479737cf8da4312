"""A training step of CLIP-ReID's second stage on the CPU, against its own recipe restated."""

from collections.abc import Callable

from benchmarks.bench_towers import CLIP_REID, NAME, SIZE, random_batch, stage_two
from benchmarks.measure import OURS, Work
from benchmarks.method_steps import WEIGHT_DECAY, our_step, peer_step
from clipreid_kit.clip import layerwise_lr_groups

RATE = 5e-6
BIAS_FACTOR = 2.0


def contenders(batch: int) -> dict[str, Callable[[], Work]]:
    """Makers of the steps, on the same weights and images."""
    images, labels = random_batch(SIZE, batch, "cpu")

    def ours() -> Work:
        model, _ = stage_two(NAME, SIZE, batch, "cpu")
        groups = layerwise_lr_groups(
            model, RATE, weight_decay=WEIGHT_DECAY, bias_lr_factor=BIAS_FACTOR, no_decay=()
        )
        return our_step(model, groups, images, labels)

    def peer() -> Work:
        _, restated = stage_two(NAME, SIZE, batch, "cpu")
        return peer_step(restated, _rate_of, images, labels)

    return {OURS: ours, CLIP_REID: peer}


def _rate_of(name: str) -> float:
    """Learning rate of a parameter in CLIP-ReID's code."""
    return BIAS_FACTOR * RATE if "bias" in name else RATE

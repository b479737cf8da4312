"""A training step of PromptSG on the CPU, against the same step restated from its paper."""

from collections.abc import Callable

import torch
from torch.testing import assert_close

from benchmarks.bench_towers import NAME, NUM_MARKET_IDENTITIES, SIZE, random_batch
from benchmarks.measure import OURS, Work
from benchmarks.method_steps import WEIGHT_DECAY, our_step, peer_step
from benchmarks.restated_prompt_sg import RestatedPromptSG
from benchmarks.restated_towers import RestatedText, RestatedVisual
from clipreid_kit.clip import ClipTowers, PromptSG, layerwise_lr_groups

PROMPT_SG = "PromptSG, restated"
IMAGE_RATE, NEW_RATE = 5e-6, 5e-5


def models(batch: int) -> tuple[PromptSG, RestatedPromptSG]:
    """Both methods with the same weights; their losses of a batch are equal."""
    torch.manual_seed(0)
    towers = ClipTowers.from_open_clip(NAME, image_size=SIZE)
    model = PromptSG(towers, NUM_MARKET_IDENTITIES)

    own = towers.model.state_dict()
    rows, columns = towers.grid
    visual = RestatedVisual(768, 12, 12, SIZE[0] // rows, rows * columns, 512)
    visual.load_state_dict(towers.model.visual.state_dict())
    text = RestatedText(512, 12, 8, 77, 512).requires_grad_(requires_grad=False)
    text.load_state_dict({name: own[name] for name in text.state_dict()})
    restated = RestatedPromptSG(model, visual, text)

    images, labels = random_batch(SIZE, batch, "cpu")
    with torch.no_grad():
        assert_close(model(images, labels).loss, restated(images, labels)[0], rtol=1e-3, atol=1e-3)
    return model, restated


def contenders(batch: int) -> dict[str, Callable[[], Work]]:
    """Makers of the steps, on the same weights and images."""
    images, labels = random_batch(SIZE, batch, "cpu")

    def ours() -> Work:
        model, _ = models(batch)
        rates = {"": NEW_RATE, "towers": IMAGE_RATE}
        groups = layerwise_lr_groups(model, rates, weight_decay=WEIGHT_DECAY)
        return our_step(model, groups, images, labels)

    def peer() -> Work:
        _, restated = models(batch)
        return peer_step(restated, _rate_of, images, labels)

    return {OURS: ours, PROMPT_SG: peer}


def _rate_of(name: str) -> float:
    """Learning rate of a parameter of the restated model."""
    return IMAGE_RATE if name.startswith("visual.") else NEW_RATE

"""A training step of PromptSG on the CPU, against the same step restated from its paper."""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.testing import assert_close

from benchmarks.bench_towers import NAME, NUM_MARKET_IDENTITIES, SIZE, random_batch
from benchmarks.measure import OURS, Work, interleaved, show
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
        assert_close(model(images, labels).loss, restated(images, labels), rtol=1e-3, atol=1e-3)
    return model, restated


def our_step(model: PromptSG, images: Tensor, labels: Tensor) -> Work:
    """Step with one group for each learning rate, fused."""
    groups = layerwise_lr_groups(model, {"": NEW_RATE, "towers": IMAGE_RATE}, weight_decay=1e-4)
    optimizer = torch.optim.Adam(groups, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        model(images, labels).loss.backward()
        optimizer.step()

    return step


def peer_step(model: RestatedPromptSG, images: Tensor, labels: Tensor) -> Work:
    """Step with a group for each parameter, and the loss read for the log."""
    groups = [
        {
            "params": [parameter],
            "lr": IMAGE_RATE if name.startswith("visual.") else NEW_RATE,
            "weight_decay": 1e-4,
        }
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    optimizer = torch.optim.Adam(groups)

    def step() -> None:
        optimizer.zero_grad()
        loss = model(images, labels)
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def contenders(batch: int) -> dict[str, Callable[[], Work]]:
    """Makers of the steps, on the same weights and images."""
    images, labels = random_batch(SIZE, batch, "cpu")
    return {
        OURS: lambda: our_step(models(batch)[0], images, labels),
        PROMPT_SG: lambda: peer_step(models(batch)[1], images, labels),
    }


def measure(repeats: int, batch: int, memory: dict[str, float]) -> None:
    """Show the steps in processor time, and the memory of each."""
    steps = {name: make() for name, make in contenders(batch).items()}
    seconds = interleaved(steps, repeats, time.process_time)
    title = f"step of PromptSG, {NAME} at {SIZE[0]} x {SIZE[1]}, batch {batch}, processor time"
    show(title, seconds, memory=memory)

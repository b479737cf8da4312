"""A training step of a method, made as this library suggests and as published code makes it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import Work

WEIGHT_DECAY = 1e-4


def our_step(
    model: nn.Module, groups: Sequence[Mapping[str, Any]], images: Tensor, labels: Tensor
) -> Work:
    """Step with one group for each learning rate, and the fused optimiser.

    Args:
        model: Called with images and labels; its output has a ``loss``.
        groups: Of :func:`layerwise_lr_groups`.
        images: The batch.
        labels: Its identities.
    """
    optimizer = torch.optim.Adam([dict(group) for group in groups], fused=True)

    def step() -> None:
        optimizer.zero_grad()
        model(images, labels).loss.backward()
        optimizer.step()

    return step


def peer_step(
    model: nn.Module, rate_of: Callable[[str], float], images: Tensor, labels: Tensor
) -> Work:
    """Step with a group for each parameter, which reads the loss and other numbers for the log.

    Args:
        model: Called with images and labels; returns the loss, and further numbers to log.
        rate_of: Learning rate of a parameter, by its name.
        images: The batch.
        labels: Its identities.
    """
    groups = [
        {"params": [parameter], "lr": rate_of(name), "weight_decay": WEIGHT_DECAY}
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    optimizer = torch.optim.Adam(groups)

    def step() -> None:
        optimizer.zero_grad()
        loss, *logged = model(images, labels)
        loss.backward()
        optimizer.step()
        for number in (loss, *logged):
            number.item()

    return step

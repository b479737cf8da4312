"""Optimisers with every trainable parameter in one group, and rates as a closed form."""

import math
from typing import Any

import torch
from torch import nn

from clipreid_kit import CenterLoss, warmup_cosine_factor, warmup_multistep_factor
from clipreid_kit.clip import layerwise_lr_groups, projection_names
from examples.settings.config import Optim


def optimizers_of(
    method: nn.Module, optim: Optim, center_weight: float = 0.0
) -> list[torch.optim.Optimizer]:
    """The optimiser, every trainable parameter in one group; and plain SGD for the centres, if there are any."""
    centers = [module for module in method.modules() if isinstance(module, CenterLoss)]
    for parameter in (p for module in centers for p in module.parameters()):
        parameter.requires_grad = False  # not in the groups below
    text_lr = optim.text_lr or optim.lr
    rates = {"": optim.head_lr or optim.lr, "towers": text_lr, "towers.model.visual": optim.lr}
    rates["towers.camera_embedding"] = optim.lr
    names = [name for name, _ in method.named_parameters()]
    if optim.projection_lr:
        rates |= {f"towers.{name}": optim.projection_lr for name in projection_names(method.towers)}  # type: ignore[arg-type]
    rates = {
        prefix: rate for prefix, rate in rates.items() if any(n.startswith(prefix) for n in names)
    }
    groups = layerwise_lr_groups(
        method,
        rates,
        layer_decay=optim.layer_decay,
        weight_decay=optim.weight_decay,
        bias_lr_factor=optim.bias_lr_factor,
        no_decay=() if optim.decay_all else None,
    )
    kinds: dict[str, Any] = {
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
        "sgd": torch.optim.SGD,
    }
    sgd = optim.optimizer == "sgd"
    own: dict[str, Any] = (
        {"momentum": optim.momentum} if sgd else {"betas": (optim.beta1, optim.beta2)}
    )
    optimizers: list[torch.optim.Optimizer] = [kinds[optim.optimizer](groups, **own)]
    for (
        module
    ) in centers:  # the gradient is divided by the weight of the term, as the strong baselines do
        module.requires_grad_()
        optimizers.append(torch.optim.SGD(module.parameters(), lr=optim.center_lr / center_weight))
    return optimizers


def rate(optim: Optim, base: float, step: int, steps: int) -> float:
    """The learning rate of a group at a step (from 0), with so many steps in an epoch: a closed form."""
    step, unit = (step // steps, 1) if optim.by_epoch else (step, steps)
    warmup, total = round(optim.warmup_epochs * unit), optim.epochs * unit
    start, least = optim.warmup_factor, min(optim.min_lr / base, 1.0)
    if optim.schedule in ("cosine", "restarts"):
        period = optim.step_epochs * unit if optim.schedule == "restarts" else None
        options: dict[str, Any] = {
            "start_factor": start,
            "min_factor": least,
            "restart_period": period,
        }
        return base * warmup_cosine_factor(step, warmup, total, **options)
    past = max(step - warmup, 0) / unit if optim.schedule == "exponential" else 0.0
    marks = {
        "multistep": [m * unit for m in optim.milestones],
        "step": [
            m * unit
            for m in range(optim.step_epochs, optim.epochs, optim.step_epochs)
            if m * unit >= warmup
        ],
    }.get(optim.schedule, [])
    factor = warmup_multistep_factor(step, warmup, marks, gamma=optim.gamma, start_factor=start)
    return base * factor * optim.gamma ** math.floor(past)

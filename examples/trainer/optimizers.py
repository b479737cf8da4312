"""Optimisers with every trainable parameter in one group."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from clipreid_kit import CenterLoss
from clipreid_kit.clip import layerwise_lr_groups, projection_names
from examples.settings.optim import AnyOptim


@dataclass
class Optimizers:
    """The optimiser of a method, and plain SGD for its centers.

    Accelerate prepares the first alone: a second prepared one would be unscaled twice.
    """

    main: torch.optim.Optimizer
    centers: list[torch.optim.Optimizer]

    def all(self) -> list[torch.optim.Optimizer]:
        """All of them."""
        return [self.main, *self.centers]


def optimizers_of(method: nn.Module, optim: AnyOptim, center_weight: float = 0.0) -> Optimizers:
    """The optimisers of a method, with every trainable parameter in one group.

    Args:
        method: The method; its towers are its attribute ``towers``.
        optim: Optimiser, rates and decay.
        center_weight: Weight of the center loss in the sum.
    """
    centers = [module for module in method.modules() if isinstance(module, CenterLoss)]
    for module in centers:
        module.requires_grad_(requires_grad=False)  # keeps them out of the groups

    groups = layerwise_lr_groups(
        method,
        _rates(method, optim),
        layer_decay=optim.layer_decay,
        weight_decay=optim.weight_decay,
        bias_lr_factor=optim.bias_lr_factor,
        no_decay=() if optim.decay_all else None,
    )
    main = _optimizer(groups, optim)

    # The gradient is divided by the weight of the term, as the strong baselines do.
    own: list[torch.optim.Optimizer] = []
    for module in centers:
        module.requires_grad_()
        own.append(torch.optim.SGD(module.parameters(), lr=optim.center_lr / center_weight))
    return Optimizers(main, own)


def _rates(method: nn.Module, optim: AnyOptim) -> dict[str, float]:
    """Peak learning rate by prefix of parameter names; the longest prefix counts."""
    rates = {
        "": optim.head_lr or optim.lr,
        "towers": optim.text_lr or optim.lr,
        "towers.model.visual": optim.lr,
        "towers.camera_embedding": optim.lr,
    }
    if optim.projection_lr is not None:
        for name in projection_names(method.towers):  # type: ignore[arg-type]
            rates[f"towers.{name}"] = optim.projection_lr

    names = [name for name, _ in method.named_parameters()]
    return {
        prefix: rate
        for prefix, rate in rates.items()
        if any(name.startswith(prefix) for name in names)
    }


def _optimizer(groups: list[dict[str, object]], optim: AnyOptim) -> torch.optim.Optimizer:
    if optim.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum)

    kind = torch.optim.AdamW if optim.optimizer == "adamw" else torch.optim.Adam
    # On a CPU one pass over the weights takes a tenth of the time. A GPU keeps torch's default,
    # as accelerate could not see that a fused step was skipped for an overflow.
    parameters = [
        parameter for group in groups for parameter in cast("list[Tensor]", group["params"])
    ]
    on_cpu = all(parameter.device.type == "cpu" for parameter in parameters)
    return kind(groups, betas=(optim.beta1, optim.beta2), fused=on_cpu or None)

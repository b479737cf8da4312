"""Find the BatchNorms of an image tower and set the mode that each runs in."""

from collections.abc import Collection

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(visual: nn.Module) -> dict[str, nn.Module]:
    """Return the BatchNorms of an image tower by their names inside it."""
    return {
        name: module for name, module in visual.named_modules() if isinstance(module, _BatchNorm)
    }


def apply_batch_norm_mode(visual: nn.Module, frozen: Collection[str], *, training: bool) -> None:
    """Put frozen BatchNorms into evaluation mode and all others into the mode of the towers.

    Args:
        visual: The image tower; its BatchNorms are changed in place.
        frozen: Names of the BatchNorms that always use, and never move, their running statistics.
        training: Whether the towers are in training mode.
    """
    for name, norm in batch_norms(visual).items():
        norm.train(training and name not in frozen)

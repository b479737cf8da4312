"""Weights between two checkpoints: WiSE-FT."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from clipreid_kit._checks import fail

_OWNER = "interpolate_weights"


def interpolate_weights(
    start: nn.Module | Mapping[str, Tensor], end: nn.Module | Mapping[str, Tensor], weight: float
) -> dict[str, Tensor]:
    r"""Interpolate between two checkpoints of one model (WiSE-FT).

    Use it after fine-tuning, with the pretrained weights as ``start``: weights in between keep more of what
    CLIP knew about other data, often at no cost on one's own.

    .. math::
        \theta = (1 - \alpha) \, \theta_{start} + \alpha \, \theta_{end}

    Args:
        start: A module, or its ``state_dict``.
        end: Another of the same tensors.
        weight: :math:`\alpha` in [0, 1].

    Returns:
        A new state dict for ``load_state_dict``, in the dtypes of ``end``, computed in float32 at least. Exactly
        the one or the other at 0 and 1. Whole numbers (counters) come from the nearer one.

    Raises:
        ValueError: If ``weight`` is out of range, or the two have different names or shapes.

    Example:
        >>> interpolate_weights({"w": torch.tensor([0.0, 2.0])}, {"w": torch.tensor([4.0, 2.0])}, 0.25)
        {'w': tensor([1., 2.])}

    References:
        Wortsman et al., `Robust fine-tuning of zero-shot models
        <https://arxiv.org/abs/2109.01903>`_, 2022, eq. 1.

    Note:
        The statistics of BatchNorm are interpolated like weights, which is an approximation; run a few
        batches in training mode afterwards if a ResNet needs them exact.
    """
    if not 0 <= weight <= 1:
        raise fail(_OWNER, "weight in [0, 1]", weight)
    first, last = (_state(source) for source in (start, end))
    if first.keys() != last.keys():
        odd = sorted(first.keys() ^ last.keys())
        raise fail(
            _OWNER,
            "two checkpoints of the same tensors",
            f"{len(odd)} in one only: {', '.join(odd[:5])}",
        )
    wrong = [name for name, tensor in first.items() if tensor.shape != last[name].shape]
    if wrong:
        name = wrong[0]
        raise fail(
            _OWNER,
            "tensors of the same shapes",
            f"{name} {tuple(first[name].shape)} and {tuple(last[name].shape)}",
        )
    return {name: _between(first[name], last[name], weight) for name in last}


def _state(source: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return source.state_dict() if isinstance(source, nn.Module) else source


def _between(start: Tensor, end: Tensor, weight: float) -> Tensor:
    start, end = start.detach(), end.detach()
    if not end.is_floating_point():
        return (end if weight >= 0.5 else start.to(end)).clone()
    wide = torch.promote_types(end.dtype, torch.float32)
    return torch.lerp(start.to(end.device, wide), end.to(wide), weight).to(end.dtype)

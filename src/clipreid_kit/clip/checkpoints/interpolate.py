"""Interpolate between the weights of two checkpoints (WiSE-FT)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from clipreid_kit._checks import check_number, fail

_OWNER = "interpolate_weights"
_MAX_SHOWN = 5


def interpolate_weights(
    start: nn.Module | Mapping[str, Tensor], end: nn.Module | Mapping[str, Tensor], weight: float
) -> dict[str, Tensor]:
    r"""Interpolate between two checkpoints of one model (WiSE-FT).

    Use it after fine-tuning, with the pretrained weights as ``start``: weights in between retain
    more of what CLIP knows about other data, often at no cost on the data of the fine-tuning.

    .. math::
        \theta = (1 - \alpha) \, \theta_{start} + \alpha \, \theta_{end}

    Args:
        start: A module, or its ``state_dict``.
        end: Another with the same tensors.
        weight: :math:`\alpha` in [0, 1].

    Returns:
        A new state dict for ``load_state_dict``, in the dtypes of ``end``, computed in float32 or
        wider; exactly ``start`` at 0 and ``end`` at 1. Integers (counters) come from the nearer
        one.

    Raises:
        ValueError: If ``weight`` is out of range, or the two have different names or shapes.

    Example:
        >>> start = {"w": torch.tensor([0.0, 2.0])}
        >>> interpolate_weights(start, {"w": torch.tensor([4.0, 2.0])}, 0.25)
        {'w': tensor([1., 2.])}

    References:
        Wortsman et al., `Robust fine-tuning of zero-shot models
        <https://arxiv.org/abs/2109.01903>`_, 2022, eq. 1.

    Note:
        The statistics of BatchNorm are interpolated like weights, which is an approximation; for
        exact statistics of a ResNet, run a few batches in training mode afterwards.
    """
    check_number(_OWNER, "weight", weight)
    if not 0 <= weight <= 1:
        raise fail(_OWNER, "weight in [0, 1]", weight)

    first, last = _state_dict(start), _state_dict(end)
    _check_same_tensors(first, last)
    return {name: _interpolate(first[name], last[name], weight) for name in last}


def _state_dict(source: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return source.state_dict() if isinstance(source, nn.Module) else source


def _check_same_tensors(first: Mapping[str, Tensor], last: Mapping[str, Tensor]) -> None:
    unpaired = sorted(first.keys() ^ last.keys())
    if unpaired:
        raise fail(
            _OWNER,
            "two checkpoints of the same tensors",
            f"{len(unpaired)} in one only: {', '.join(unpaired[:_MAX_SHOWN])}",
        )

    for name, tensor in first.items():
        if tensor.shape != last[name].shape:
            shapes = f"{name} {tuple(tensor.shape)} and {tuple(last[name].shape)}"
            raise fail(_OWNER, "tensors of the same shapes", shapes)


def _interpolate(start: Tensor, end: Tensor, weight: float) -> Tensor:
    start, end = start.detach(), end.detach()
    if not end.is_floating_point():
        nearer = end if weight >= 0.5 else start.to(end)
        return nearer.clone()

    wide = torch.promote_types(end.dtype, torch.float32)
    return torch.lerp(start.to(end.device, wide), end.to(wide), weight).to(end.dtype)

"""Checks and weights of padded tracklets, for the modules that pool frames."""

import torch
from torch import Tensor

from clipreid_kit._checks import check_dense, describe, fail


def check_frames(
    owner: str, frames: Tensor, valid: Tensor | None, dim: int | None = None
) -> Tensor:
    """Require frames (N, T, D) with their mask, and return the mask; all are valid without one.

    Args:
        owner: Name for error texts.
        frames: The frames.
        valid: Which of them are no padding.
        dim: Width that the frames have to have; ``None`` for any.
    """
    check_dense(owner, "frames", frames)
    is_frames = frames.ndim == 3 and frames.is_floating_point() and frames.shape[1] > 0
    if not is_frames or dim not in (None, frames.shape[2]):
        width = "D" if dim is None else dim
        raise fail(
            owner, f"frames (tracklets, T, {width}) with at least one frame", describe(frames)
        )

    shape = frames.shape[:2]
    if valid is None:
        return torch.ones(shape, dtype=torch.bool, device=frames.device)
    if valid.shape != shape or valid.dtype != torch.bool:
        raise fail(owner, f"valid as booleans {tuple(shape)}", describe(valid))
    return valid


def without_padding(frames: Tensor, valid: Tensor) -> Tensor:
    """Return frames with zeros for padding, which may hold anything, also NaN."""
    return torch.where(valid[:, :, None], frames, 0.0)


def mean_of_valid(frames: Tensor, valid: Tensor) -> Tensor:
    """Mean of the valid frames of each row; 0 for a row without any."""
    count = valid.sum(dim=1, keepdim=True).clamp(min=1)
    return without_padding(frames, valid).sum(dim=1) / count

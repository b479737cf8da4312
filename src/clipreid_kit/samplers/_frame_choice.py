"""Choose the frames of a tracklet that a batch shows."""

import numpy as np
import torch

from clipreid_kit.samplers._integers import IntArray


def segment_frames(count: IntArray, num_frames: int, rng: torch.Generator) -> IntArray:
    r"""Draw one frame of each of T equal segments: restricted random sampling.

    Segment i of a tracklet of n frames is :math:`[\lfloor i n / T \rfloor, \lfloor (i + 1) n / T
    \rfloor)`, and at least one frame. A tracklet of fewer than T frames thus shows each of them as
    often as any other, give or take one.

    Args:
        count: Frames of each tracklet, at least 1 each.
        num_frames: T, the frames to show.
        rng: Generator of the draws.

    Returns:
        Places of the frames in their tracklets (tracklets, T), ascending.
    """
    edge = np.arange(num_frames + 1)
    bound = edge * count[:, None] // num_frames
    begin, size = bound[:, :-1], np.maximum(np.diff(bound, axis=1), 1)
    return begin + _below(size, rng)


def consecutive_frames(
    count: IntArray, num_frames: int, stride: int, rng: torch.Generator
) -> IntArray:
    """Draw T frames, each ``stride`` behind the one before, from a random start.

    In a tracklet that is too short for them they follow more closely, at the largest distance that
    fits; if it has fewer than T frames, it shows each of them as often as any other, give or take
    one.

    Args:
        count: Frames of each tracklet, at least 1 each.
        num_frames: T, the frames to show.
        stride: Largest distance of one frame to the next.
        rng: Generator of the draws.

    Returns:
        Places of the frames in their tracklets (tracklets, T), ascending.
    """
    place = np.arange(num_frames)
    widest = (count - 1) // max(num_frames - 1, 1)
    distance = np.minimum(stride, widest)
    start = _below(count - distance * (num_frames - 1), rng)

    in_turn = start[:, None] + distance[:, None] * place
    repeated = place * count[:, None] // num_frames
    return np.where(count[:, None] < num_frames, repeated, in_turn)


def _below(size: IntArray, rng: torch.Generator) -> IntArray:
    """Draw a number in [0, size) for each size, which is at least 1."""
    fraction = torch.rand(size.shape, dtype=torch.float64, generator=rng, device="cpu").numpy()
    return np.minimum((fraction * size).astype(np.int64), size - 1)

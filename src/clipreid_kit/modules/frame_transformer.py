"""Temporal transformer over the frames of a tracklet."""

from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from clipreid_kit._checks import check_integer, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import at_least_float32
from clipreid_kit.modules._attention import SelfBlock
from clipreid_kit.modules._valid_frames import check_frames, mean_of_valid, without_padding

_OWNER = "FrameTransformer"


@fixed_options(not_kept=("num_blocks", "num_positions", "dropout"))
class FrameTransformer(nn.Module):
    r"""Temporal transformer over the frames of a tracklet, then the mean of what it returns.

    Use it on CLIP's class tokens where the order of the frames tells something, such as how a
    person walks, or where a frame has to be judged beside the others. It needs more data than
    :class:`FrameAttention`.

    .. math::
        f = \frac{1}{|V|} \sum_{t \in V} y_t, \qquad
        y = x + B_n\big(\cdots B_1(x + p)\big) - (x + p)

    over the valid frames :math:`V`, with pre-norm blocks :math:`B`, which attend to valid frames
    alone, and learned positions :math:`p`. It begins as the mean: the last layers of every block
    are 0, so that :math:`B(x) = x`.

    Args:
        dim: Width D of the frames, at least 1.
        num_blocks: Number of blocks, at least 1.
        num_heads: Number of heads; it divides ``dim``. Defaults to the largest number up to
            ``dim / 64`` that divides it.
        num_positions: Learned positions, at least 1. Frame i of n has the position at
            :math:`(i + 1/2) / n` of its tracklet, between two learned ones in proportion, so that
            tracklets of any length are allowed, and in training and test the same positions mean
            the same part of a tracklet.
        dropout: Dropout probability in the blocks, in [0, 1).

    Raises:
        ValueError: If an option is out of its range; in ``forward``, if the frames have another
            shape.

    Example:
        >>> transformer = FrameTransformer(8, num_heads=2)
        >>> frames = torch.randn(3, 5, 8)
        >>> torch.allclose(transformer(frames), frames.mean(dim=1))  # before training
        True

    References:
        Luo et al., CLIP4Clip: An Empirical Study of CLIP for End to End Video Clip Retrieval,
        Neurocomputing 2022, section 3.3 (sequential type). Vaswani et al., Attention Is All You
        Need, NeurIPS 2017.
    """

    dim: Final[int]
    num_heads: Final[int]

    def __init__(
        self,
        dim: int,
        *,
        num_blocks: int = 1,
        num_heads: int | None = None,
        num_positions: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_integer(_OWNER, "dim", dim, 1)
        check_integer(_OWNER, "num_blocks", num_blocks, 1)
        check_integer(_OWNER, "num_positions", num_positions, 1)
        num_heads = _usual_heads(dim) if num_heads is None else num_heads
        check_integer(_OWNER, "num_heads", num_heads, 1)
        if dim % num_heads:
            raise fail(_OWNER, f"num_heads that divides dim = {dim}", num_heads)
        if not 0 <= dropout < 1:
            raise fail(_OWNER, "dropout in [0, 1)", dropout)

        self.dim = dim
        self.num_heads = num_heads
        self.positions = nn.Parameter(0.02 * torch.randn(num_positions, dim))
        blocks = [
            SelfBlock(dim, num_heads, single=False, post_norm=False, mlp_ratio=4.0, dropout=dropout)
            for _ in range(num_blocks)
        ]
        for block in blocks:
            _begin_as_identity(block)
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, frames: Float[Tensor, "n t d"], valid: Bool[Tensor, "n t"] | None = None
    ) -> Float[Tensor, "n d"]:
        """Pool the frames of each tracklet.

        Args:
            frames: Embeddings of frames in their order, with at least one frame a tracklet.
            valid: Which frames are no padding. ``None`` means all. Padding may hold any values, and
                lie anywhere: the others count as one sequence.

        Returns:
            Rows (N, D), float32 or float64; 0 for a tracklet without valid frames, and no rows for
            no tracklets.

        Raises:
            ValueError: If shapes disagree.
        """
        valid = check_frames(_OWNER, frames, valid, self.dim)
        frames = without_padding(frames, valid).to(self.positions.dtype)

        begun = frames + self._positions_of(valid)
        tokens = begun
        for block in self.blocks:
            tokens = block(tokens, valid)

        changed = at_least_float32(frames) + (at_least_float32(tokens) - at_least_float32(begun))
        return mean_of_valid(changed, valid)

    def _positions_of(self, valid: Tensor) -> Tensor:
        """Positions of the valid frames (N, T, D), each at its part of the tracklet."""
        last = len(self.positions) - 1
        count = valid.sum(dim=1, keepdim=True).clamp(min=1)
        index = (valid.cumsum(dim=1) - 1).clamp(min=0)
        place = ((index + 0.5) / count * (last + 1) - 0.5).clamp(0, last)

        before = place.floor().long()
        part = (place - before)[:, :, None].to(self.positions.dtype)
        after = (before + 1).clamp(max=last)
        return (1 - part) * self.positions[before] + part * self.positions[after]

    def extra_repr(self) -> str:
        """Return the option that no submodule shows, for ``print(module)``."""
        return f"num_positions={len(self.positions)}"


def _begin_as_identity(block: SelfBlock) -> None:
    """Set the last layers of a block to 0, so that it returns its tokens."""
    for parameter in (*block.out.parameters(), *block.mlp[2].parameters()):
        nn.init.zeros_(parameter)


def _usual_heads(dim: int) -> int:
    """Return the largest number of heads up to ``dim / 64`` that divides ``dim``."""
    return next(heads for heads in range(max(1, dim // 64), 0, -1) if dim % heads == 0)

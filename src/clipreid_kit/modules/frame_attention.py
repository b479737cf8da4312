"""Attention over the frames of a tracklet: a weighted mean whose weights are learned."""

from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from clipreid_kit._checks import check_integer
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import at_least_float32
from clipreid_kit.modules._valid_frames import check_frames, without_padding

_OWNER = "FrameAttention"


@fixed_options(not_kept=("hidden_dim",))
class FrameAttention(nn.Module):
    r"""Attention over the frames of a tracklet: a weighted mean whose weights are learned.

    Use it where some frames are worse than others: occluded, blurred, or of another person. A frame
    gets its weight for what it shows, whatever its place.

    .. math::
        f = \sum_{t \in V} a_t x_t, \qquad
        a = \operatorname{softmax}_{t \in V}\big( v^T \tanh(W x_t + b) \big)

    over the valid frames :math:`V`. It begins as the mean: :math:`v = 0`.

    Args:
        dim: Width D of the frames, at least 1.
        hidden_dim: Rows of :math:`W`, at least 1. Defaults to a quarter of ``dim``, at least 1.

    Raises:
        ValueError: If a width is out of its range; in ``forward``, if the frames have another
            shape.

    Example:
        >>> attention = FrameAttention(2)
        >>> frames = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
        >>> valid = torch.tensor([[True, True, False]])
        >>> attention(frames, valid), attention.weights(frames, valid)  # before training
        (tensor([[0.5000, 0.5000]], grad_fn=...), tensor([[0.5000, 0.5000, 0.0000]], grad_fn=...))

    Relations:
        Frames of unit length keep the logits bounded; the embeddings of the methods here have it.

    References:
        Ilse, Tomczak and Welling, Attention-based Deep Multiple Instance Learning, ICML 2018,
        equation 8. Gao and Nevatia, Revisiting Temporal Modeling for Video-based Person ReID, 2018,
        section 3.2.
    """

    dim: Final[int]

    def __init__(self, dim: int, *, hidden_dim: int | None = None) -> None:
        super().__init__()
        check_integer(_OWNER, "dim", dim, 1)
        hidden_dim = max(1, dim // 4) if hidden_dim is None else hidden_dim
        check_integer(_OWNER, "hidden_dim", hidden_dim, 1)

        self.dim = dim
        self.hidden = nn.Linear(dim, hidden_dim)
        self.score = nn.Linear(hidden_dim, 1, bias=False)  # a bias would add the same to all
        nn.init.zeros_(self.score.weight)

    def forward(
        self, frames: Float[Tensor, "n t d"], valid: Bool[Tensor, "n t"] | None = None
    ) -> Float[Tensor, "n d"]:
        """Pool the frames of each tracklet.

        Args:
            frames: Embeddings of frames, with at least one frame a tracklet.
            valid: Which frames are no padding. ``None`` means all. Padding may hold any values.

        Returns:
            Rows (N, D), float32 or float64; 0 for a tracklet without valid frames, and no rows for
            no tracklets.

        Raises:
            ValueError: If shapes disagree.
        """
        valid = check_frames(_OWNER, frames, valid, self.dim)
        frames = without_padding(frames, valid)
        weights = self._weights(frames, valid)

        with torch.autocast(frames.device.type, enabled=False):
            return (weights[:, :, None] * at_least_float32(frames)).sum(dim=1)

    def weights(
        self, frames: Float[Tensor, "n t d"], valid: Bool[Tensor, "n t"] | None = None
    ) -> Float[Tensor, "n t"]:
        """Return the weight of each frame, for example to show the frames that count.

        Args:
            frames: Embeddings of frames, as for :meth:`forward`.
            valid: Which frames are no padding.

        Returns:
            Weights (N, T), at least 0, with sum 1 in each row; 0 for padding.

        Raises:
            ValueError: If shapes disagree.
        """
        valid = check_frames(_OWNER, frames, valid, self.dim)
        return self._weights(without_padding(frames, valid), valid)

    def _weights(self, frames: Tensor, valid: Tensor) -> Tensor:
        """Softmax of the scores of the valid frames."""
        scores = self.score(torch.tanh(self.hidden(frames.to(self.hidden.weight.dtype))))
        logits = at_least_float32(scores.squeeze(2)).masked_fill(~valid, -torch.inf)

        # A row of -inf alone would be NaN, also in its gradient.
        is_empty = ~valid.any(dim=1, keepdim=True)
        return logits.masked_fill(is_empty, 0.0).softmax(dim=1) * valid

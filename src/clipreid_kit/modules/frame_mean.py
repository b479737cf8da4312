"""Mean of the frames of a tracklet."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from clipreid_kit.distances import at_least_float32
from clipreid_kit.modules._valid_frames import check_frames, mean_of_valid


class FrameMean(nn.Module):
    r"""Mean of the frames of a tracklet: the pooling that has nothing to learn.

    Use it first: it is hard to beat where all frames show the same, and it needs no training, so
    that a model of images serves for video.

    .. math:: f = \frac{1}{|V|} \sum_{t \in V} x_t

    over the valid frames :math:`V`.

    Raises:
        ValueError: In ``forward``, if the frames or their mask have another shape.

    Example:
        >>> import torch
        >>> frames = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
        >>> FrameMean()(frames, valid=torch.tensor([[True, True, False]]))
        tensor([[0.5000, 0.5000]])

    References:
        Zheng et al., MARS: A Video Benchmark for Large-Scale Person Re-identification, ECCV 2016,
        section 4.2 (average pooling). Gao and Nevatia, Revisiting Temporal Modeling for Video-based
        Person ReID, 2018.
    """

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
        valid = check_frames("FrameMean", frames, valid)
        return mean_of_valid(at_least_float32(frames), valid)

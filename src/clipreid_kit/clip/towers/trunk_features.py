"""The levels that a trunk of timm or torchvision returns."""

from typing import NamedTuple

from torch import Tensor


class TrunkFeatures(NamedTuple):
    """Output of a trunk at each level, before any projection.

    Attributes:
        previous: (N, W'), the class token or the mean of the last block, or stage, but one.
        patches: (N, T, W), the patch tokens or the positions of the last feature map.
        pooled: (N, D), what the classifier of the trunk reads.
        grid: (rows, columns) of the patches.
    """

    previous: Tensor
    patches: Tensor
    pooled: Tensor
    grid: tuple[int, int]


def features_of_maps(before_last: Tensor, final: Tensor, pooled: Tensor) -> TrunkFeatures:
    """Return the levels of a convolutional network.

    Args:
        before_last: (N, W', H', W'), the feature map of the last stage but one.
        final: (N, W, H, W), the last feature map.
        pooled: (N, D), what the classifier reads.
    """
    grid = (int(final.shape[2]), int(final.shape[3]))
    patches = final.flatten(2).transpose(1, 2)
    return TrunkFeatures(before_last.mean(dim=(2, 3)), patches, pooled, grid)

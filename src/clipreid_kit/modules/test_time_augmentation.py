"""Test-time averaging: an image, its mirror image and other sizes of it, as one embedding."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import check_integer, check_positive, describe, fail
from clipreid_kit.distances import l2_normalize


class TestTimeAugmentation(nn.Module):
    """Average the embeddings of several views of each image: mirrored, and at several sizes; no parameters of its own.

    A mean over views is steadier than a single one, at as many times the cost; for evaluation and for building a
    gallery, and no substitute for augmentation in training. Leave ``flip`` off where left and right differ (left and
    right hands, printed text).

    Args:
        encoder: Takes images (N, 3, H, W) and returns embeddings (N, D): a Module, or a method such as
            ``towers.encode_image``.
        flip: Whether every view is also encoded mirrored left to right.
        scales: Factors of height and width, each above 0, one view for each; 1.0 for the image as it is. Other sizes
            need an encoder that takes them: convolutional, or a transformer that resizes its positions.
        normalize: Whether each embedding is brought to length 1 before the mean, and the mean again. Otherwise the
            mean is that of the embeddings as they come.
        multiple_of: Heights and widths are rounded to multiples of this, and are at least this: the patch or stride
            of the encoder.

    Raises:
        ValueError: If there is no scale, a scale is not above 0 or ``multiple_of`` is below 1; in ``forward``, if the
            images are not floating-point (N, 3, H, W) or the encoder does not return (N, D).

    Example:
        >>> column_means = lambda images: images.mean(dim=(1, 2))
        >>> image = torch.tensor([3.0, 4.0]).expand(1, 3, 2, 2)
        >>> TestTimeAugmentation(column_means, flip=False)(image)
        tensor([[0.6000, 0.8000]])
        >>> TestTimeAugmentation(column_means)(image)  # with its mirror image
        tensor([[0.7071, 0.7071]])
    """

    __test__: ClassVar[bool] = False  # pytest takes a class of this name for a test

    def __init__(
        self,
        encoder: Callable[[Tensor], Tensor],
        *,
        flip: bool = True,
        scales: Sequence[float] = (1.0,),
        normalize: bool = True,
        multiple_of: int = 1,
    ) -> None:
        super().__init__()
        if len(scales) == 0:
            raise fail(
                "TestTimeAugmentation", "at least one scale", "none", "1.0 is the image as it is."
            )
        for scale in scales:
            check_positive("TestTimeAugmentation", "scales", scale)
        check_integer("TestTimeAugmentation", "multiple_of", multiple_of, 1)
        self.encoder = encoder
        self.flip = flip
        self.scales = tuple(scales)
        self.normalize = normalize
        self.multiple_of = multiple_of

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Embeddings (N, D), float32 or float64; of unit length if ``normalize``."""
        if images.ndim != 4 or not images.is_floating_point():
            raise fail(
                "TestTimeAugmentation", "floating-point images (N, 3, H, W)", describe(images)
            )
        views = [
            self._encoded(view)
            for scale in self.scales
            for view in self._mirrored(self._resized(images, scale))
        ]
        mean = torch.stack(views).mean(dim=0)
        return l2_normalize(mean) if self.normalize else mean

    def extra_repr(self) -> str:
        """Options, for ``repr``."""
        return f"flip={self.flip}, scales={self.scales}, normalize={self.normalize}, multiple_of={self.multiple_of}"

    def _mirrored(self, images: Tensor) -> list[Tensor]:
        return [images, images.flip(-1)] if self.flip else [images]

    def _resized(self, images: Tensor, scale: float) -> Tensor:
        step = self.multiple_of
        size = [max(step, round(side * scale / step) * step) for side in images.shape[2:]]
        if size == list(images.shape[2:]):
            return images
        return F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)

    def _encoded(self, images: Tensor) -> Tensor:
        embeddings: object = self.encoder(images)
        if (
            not isinstance(embeddings, Tensor)
            or embeddings.ndim != 2
            or embeddings.shape[0] != images.shape[0]
        ):
            got = (
                describe(embeddings)
                if isinstance(embeddings, Tensor)
                else type(embeddings).__name__
            )
            raise fail(
                "TestTimeAugmentation",
                f"embeddings ({images.shape[0]}, D) from the encoder",
                got,
                "Wrap it in a function that returns one embedding for each image.",
            )
        embeddings = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
        return l2_normalize(embeddings) if self.normalize else embeddings

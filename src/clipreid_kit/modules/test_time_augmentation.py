"""Test-time augmentation: one embedding of an image, its mirror image and other sizes of it."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import check_integer, check_positive, describe, fail
from clipreid_kit.distances import at_least_float32, l2_normalize

_OWNER = "TestTimeAugmentation"


class TestTimeAugmentation(nn.Module):
    """Average the embeddings of several views of each image: mirrored, and at several sizes.

    Use it for evaluation and for building a gallery: a mean over views is more stable than a single
    view, at as many times the cost. It does not replace augmentation in training. Turn ``flip`` off
    where left and right differ (left and right hands, printed text). It has no parameters besides
    those of the encoder.

    Args:
        encoder: Module or function that maps images (N, 3, H, W) to embeddings (N, D), such as
            ``towers.encode_image``.
        flip: Whether every view is also encoded mirrored left to right.
        scales: Factors of height and width, each above 0, with one view for each; 1.0 is the image
            as it is. Other sizes need an encoder that accepts them: a convolutional one, or a
            transformer that resizes its positions.
        normalize: Whether each embedding is L2-normalised before the mean, and the mean again.
            Otherwise the mean is taken over the embeddings as the encoder returns them.
        multiple_of: Heights and widths are rounded to multiples of this number, and are at least
            this: the patch size or stride of the encoder.

    Raises:
        ValueError: If there is no scale, a scale is not above 0 or ``multiple_of`` is below 1; in
            ``forward``, if the images are not floating-point (N, 3, H, W) or the encoder does not
            return (N, D).

    Example:
        >>> column_means = lambda images: images.mean(dim=(1, 2))
        >>> image = torch.tensor([3.0, 4.0]).expand(1, 3, 2, 2)
        >>> TestTimeAugmentation(column_means, flip=False)(image)
        tensor([[0.6000, 0.8000]])
        >>> TestTimeAugmentation(column_means)(image)  # with its mirror image
        tensor([[0.7071, 0.7071]])
    """

    __test__: ClassVar[bool] = False  # pytest would collect a class of this name as a test

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
            raise ValueError(f"{_OWNER}: scales is empty; (1.0,) is the image as it is.")
        for scale in scales:
            check_positive(_OWNER, "scales", scale)
        check_integer(_OWNER, "multiple_of", multiple_of, 1)

        self.encoder = encoder
        self.flip = flip
        self.scales = tuple(scales)
        self.normalize = normalize
        self.multiple_of = multiple_of

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return embeddings (N, D), float32 or float64; L2-normalised if ``normalize``."""
        if images.ndim != 4 or not images.is_floating_point():
            raise fail(_OWNER, "floating-point images (N, 3, H, W)", describe(images))

        views = []
        for scale in self.scales:
            resized = self._resize(images, scale)
            views.append(self._encode(resized))
            if self.flip:
                views.append(self._encode(resized.flip(-1)))

        mean = torch.stack(views).mean(dim=0)
        return l2_normalize(mean) if self.normalize else mean

    def extra_repr(self) -> str:
        """Return the options, for ``print(module)``."""
        return (
            f"flip={self.flip}, scales={self.scales}, normalize={self.normalize}, "
            f"multiple_of={self.multiple_of}"
        )

    def _resize(self, images: Tensor, scale: float) -> Tensor:
        """Resize images by a factor, to a size that the encoder accepts."""
        step = self.multiple_of
        size = [max(step, round(side * scale / step) * step) for side in images.shape[2:]]
        if size == list(images.shape[2:]):
            return images

        # On a CPU torch does not resize in half precision.
        resized = F.interpolate(
            at_least_float32(images), size, mode="bicubic", antialias=True, align_corners=False
        )
        return resized.to(images.dtype)

    def _encode(self, images: Tensor) -> Tensor:
        """Embeddings of one view, in float32 or float64."""
        embeddings = self.encoder(images)
        _check_output(embeddings, images.shape[0])

        if embeddings.dtype != torch.float64:
            embeddings = embeddings.float()
        return l2_normalize(embeddings) if self.normalize else embeddings


def _check_output(embeddings: object, num_rows: int) -> None:
    """Raise ValueError if the encoder did not return one embedding for each image."""
    expected = f"embeddings ({num_rows}, D) from the encoder"
    remedy = "Wrap the encoder in a function that returns one embedding for each image."
    if not isinstance(embeddings, Tensor):
        raise fail(_OWNER, expected, type(embeddings).__name__, remedy)
    if embeddings.ndim != 2 or embeddings.shape[0] != num_rows:
        raise fail(_OWNER, expected, describe(embeddings), remedy)

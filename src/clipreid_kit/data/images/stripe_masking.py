"""Random masking of horizontal stripes, which imitates persons that are partly hidden."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer, fail
from clipreid_kit.data.images._image_checks import check_between
from clipreid_kit.data.images.load_image import load_image

StripeFill = Literal["mean", "noise", "image"]

_OWNER = "StripeMasking"


@dataclass(frozen=True)
class StripeMasking:
    """Mask horizontal stripes of normalised images at random.

    Use it as ``train_transform(..., stripes=StripeMasking(0.5))``: a model that has seen persons
    without legs or head relies on no single part of them. The stripes do not overlap, may touch,
    and together cover the same number of rows in every masked image. Random numbers come from
    torch, as those of the other augmentations.

    Args:
        probability: Probability of masking an image, in [0, 1].
        share: Share of the height that all stripes cover together, in (0, 1); rounded to rows, and
            at least one row a stripe.
        num_stripes: Number of stripes, at least 1.
        fill: ``"mean"`` fills with the mean colour of the normalisation, which is 0; ``"noise"``
            with noise of the spread of the data, drawn for each pixel; ``"image"`` with the same
            rows of another image.
        images: Paths of the other images, for ``fill="image"``; each masked image draws one.
        transform: Callable from another image to a tensor of the size of the masked ones, such as
            :func:`eval_transform` returns, for ``fill="image"``.

    Raises:
        ValueError: If an argument is out of range, or images and their transform are given without
            ``fill="image"`` or missing with it; and, from a call, if an image has fewer rows than
            there are stripes, or another image has another size.

    Example:
        >>> masking = StripeMasking(1.0, share=0.5, num_stripes=2)
        >>> image = masking(torch.ones(3, 8, 4))
        >>> image.sum(dim=(0, 2)).count_nonzero()  # rows that are left
        tensor(4)
    """

    probability: float
    share: float = 0.3
    num_stripes: int = 1
    fill: StripeFill = "mean"
    images: Sequence[str] = ()
    transform: Callable[[Image.Image], Tensor] | None = None

    def __post_init__(self) -> None:
        check_between(_OWNER, "probability", self.probability, 1)
        check_between(_OWNER, "share", self.share, 1)
        if self.share in (0, 1):
            raise fail(_OWNER, "share in (0, 1)", self.share)

        check_integer(_OWNER, "num_stripes", self.num_stripes, 1)
        check_choice(_OWNER, "fill", self.fill, ("mean", "noise", "image"))
        self._check_images()

    def __repr__(self) -> str:
        return (
            f"StripeMasking(probability={self.probability}, share={self.share}, "
            f"num_stripes={self.num_stripes}, fill={self.fill!r})"
        )

    def __call__(self, image: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
        """Return a masked copy, or the image itself."""
        if float(torch.rand((), dtype=torch.float32, device="cpu")) >= self.probability:
            return image

        masked = image.clone()
        filling = self._filling(image)
        for first, last in self._stripes(image.shape[1]):
            masked[:, first:last] = filling[:, first:last]
        return masked

    def _stripes(self, height: int) -> list[tuple[int, int]]:
        """First row of each stripe, and the row after its last."""
        if height < self.num_stripes:
            raise fail(_OWNER, f"images of at least {self.num_stripes} rows", height)
        num_rows = max(self.num_stripes, round(self.share * height))

        # stripes are drawn into the rows that stay: between two of them, several may begin
        free = height - num_rows
        before = torch.randint(free + 1, (self.num_stripes,), device="cpu").sort().values.tolist()
        ends = [num_rows * (stripe + 1) // self.num_stripes for stripe in range(self.num_stripes)]
        begins = [0, *ends[:-1]]
        return [
            (gap + begin, gap + end) for gap, begin, end in zip(before, begins, ends, strict=True)
        ]

    def _filling(self, image: Tensor) -> Tensor:
        """An image of the same size, whose rows replace the masked ones."""
        if self.fill == "mean":
            return torch.zeros_like(image)
        if self.fill == "noise":
            return torch.randn_like(image)

        row = int(torch.randint(len(self.images), (), device="cpu"))
        transform = cast("Callable[[Image.Image], Tensor]", self.transform)
        other = transform(load_image(self.images[row]))
        if other.shape != image.shape:
            raise fail(
                _OWNER,
                f"a transform of the other images to {tuple(image.shape)}",
                tuple(other.shape),
            )
        return other

    def _check_images(self) -> None:
        """Require other images and their transform where they are used, and only there."""
        given = [len(self.images) > 0, self.transform is not None]
        if self.fill == "image" and not all(given):
            raise ValueError(
                f'{_OWNER}: fill="image" needs images and transform. Pass paths, and the '
                "evaluation's transform."
            )
        if self.fill != "image" and any(given):
            raise ValueError(
                f'{_OWNER}: images and transform have no effect with fill="{self.fill}". Leave '
                'them out, or set fill="image".'
            )

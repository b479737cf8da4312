"""Training images: how they are shown to the towers, and how they are augmented."""

from collections.abc import Callable, Sequence

from PIL.Image import Image
from torch import Tensor

from clipreid_kit.clip import ClipTowers
from clipreid_kit.data import (
    ImageRecord,
    ImageSpec,
    MultiViewTransform,
    ReidDataset,
    StripeMasking,
    eval_transform,
    train_transform,
    warp_transform,
)
from examples.settings.augment import Augment
from examples.settings.images import Images
from examples.settings.model import Model


def image_spec(towers: ClipTowers, model: Model, fill: int) -> ImageSpec:
    """Size, fit and colours of images for the towers, in training and in evaluation."""
    return ImageSpec(
        image_size=towers.image_size,
        mean=towers.image_mean,
        std=towers.image_std,
        interpolation=model.interpolation,
        fit=model.fit,
        fill=fill,
    )


def training_set(
    records: Sequence[ImageRecord], spec: ImageSpec, augment: Augment, data: Images, seed: int
) -> ReidDataset:
    """Training images with augmentation."""
    stripes = _stripes(records, spec, augment) if augment.stripes else None
    transform: Callable[[Image], Tensor] = train_transform(
        spec,
        crop=augment.crop,
        horizontal_flip=augment.horizontal_flip,
        pad=augment.pad,
        color_jitter=augment.color_jitter,
        rotation=augment.rotation,
        translate=(augment.translate, augment.translate),
        scale=augment.scale,
        shear=augment.shear,
        perspective=augment.perspective,
        augmix=augment.augmix,
        erasing=augment.erasing,
        stripes=stripes,
    )

    if augment.views > 1:
        transform = MultiViewTransform(transform, augment.views)

    identity_transform = None
    if augment.identity_warp or augment.identity_orientations > 1:
        identity_transform = warp_transform(
            orientations=augment.identity_orientations,
            fill=augment.fill,
            rotation=30 * augment.identity_warp,
            shear=40 * augment.identity_warp,
            perspective=0.8 * augment.identity_warp,
        )

    return ReidDataset(
        records,
        transform,
        identity_transform=identity_transform,
        orientations=data.orientations,
        cache=data.cache,
        seed=seed,
    )


def _stripes(records: Sequence[ImageRecord], spec: ImageSpec, augment: Augment) -> StripeMasking:
    """Masking of stripes of training images."""
    of_others = augment.stripe_fill == "image"
    return StripeMasking(
        augment.stripes,
        augment.stripe_share,
        augment.num_stripes,
        augment.stripe_fill,
        images=[record.path for record in records] if of_others else (),
        transform=eval_transform(spec) if of_others else None,
    )

"""How images are shown to the towers: in training with augmentation, in evaluation in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from clipreid_kit.clip import ClipTowers
from clipreid_kit.data import (
    ImageRecord,
    ImageSpec,
    ReidDataset,
    eval_transform,
    train_transform,
    warp_transform,
)
from examples.settings.data import Images
from examples.settings.sections import Augment, Model


def image_spec(towers: ClipTowers, model: Model, fill: int) -> ImageSpec:
    """How images are shown to the towers, in training and evaluation alike."""
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
    transform = train_transform(
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
    )

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


@dataclass(frozen=True)
class EvaluationImages:
    """How images are loaded in order, without augmentation."""

    spec: ImageSpec
    batch_size: int
    workers: int

    def loader(self, records: Sequence[ImageRecord], angle: float = 0.0) -> "DataLoader[Any]":
        """Batches of records; turned by an angle in degrees, if one is given."""
        transform: Any = eval_transform(self.spec)
        if angle:
            turn = v2.RandomRotation(
                (angle, angle),
                interpolation=v2.InterpolationMode.BILINEAR,
                fill=self.spec.fill,
            )
            transform = v2.Compose([turn, transform])

        # Starting processes takes longer than loading a few images.
        workers = self.workers if len(records) > 4 * self.batch_size else 0
        return DataLoader(
            ReidDataset(records, transform),
            self.batch_size,
            num_workers=workers,
            generator=torch.Generator(),
        )

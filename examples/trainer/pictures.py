"""How a recipe shows pictures: in training, with augmentation, and in order."""

from collections.abc import Sequence
from dataclasses import asdict
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
from examples.settings.config import Recipe


def image_spec(recipe: Recipe, towers: ClipTowers) -> ImageSpec:
    """How pictures are shown to the towers, in training and test alike."""
    model, fill = recipe.model, recipe.augment.fill
    shown: dict[str, Any] = {"interpolation": model.interpolation, "fit": model.fit, "fill": fill}
    return ImageSpec(
        image_size=towers.image_size, mean=towers.image_mean, std=towers.image_std, **shown
    )


def training_set(recipe: Recipe, records: Sequence[ImageRecord], towers: ClipTowers) -> ReidDataset:
    """Training images with augmentation."""
    options = asdict(recipe.augment)
    options["translate"] = (recipe.augment.translate, recipe.augment.translate)
    warp, orientations, fill = (
        options.pop("identity_warp"),
        options.pop("identity_orientations"),
        options.pop("fill"),
    )
    make_identity = None
    if warp or orientations > 1:
        strength = {"rotation": 30 * warp, "shear": 40 * warp, "perspective": 0.8 * warp}
        make_identity = warp_transform(orientations=orientations, fill=fill, **strength)
    shown: dict[str, Any] = {
        "orientations": recipe.data.orientations,
        "cache": recipe.data.cache,
        "seed": recipe.seed,
    }
    transform = train_transform(image_spec(recipe, towers), **options)
    return ReidDataset(records, transform, identity_transform=make_identity, **shown)


def evaluation_batches(
    recipe: Recipe, records: Sequence[ImageRecord], towers: ClipTowers, angle: float
) -> "DataLoader[Any]":
    """Images in order, without augmentation; turned by an angle in degrees if one is given."""
    transform: Any = eval_transform(image_spec(recipe, towers))
    if angle:
        options: dict[str, Any] = {
            "interpolation": v2.InterpolationMode.BILINEAR,
            "fill": recipe.augment.fill,
        }
        transform = v2.Compose([v2.RandomRotation((angle, angle), **options), transform])
    size = recipe.evaluate.batch_size
    workers = recipe.data.workers if len(records) > 4 * size else 0
    return DataLoader(
        ReidDataset(records, transform), size, num_workers=workers, generator=torch.Generator()
    )

"""Image specifications of published code, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from clipreid_kit.data.images.image_spec import ImageSpec

_HALF = (0.5, 0.5, 0.5)

IMAGE_PRESETS: Mapping[str, ImageSpec] = MappingProxyType(
    {
        "openai": ImageSpec(image_size=(224, 224), fit="crop"),
        "clip-reid": ImageSpec(
            image_size=(256, 128),
            mean=_HALF,
            std=_HALF,
            interpolation="bilinear",
            train_interpolation="bicubic",
        ),
        "clip-reid-vehicle": ImageSpec(
            image_size=(256, 256),
            mean=_HALF,
            std=_HALF,
            interpolation="bilinear",
            train_interpolation="bicubic",
        ),
        "clip-reid-cnn": ImageSpec(
            image_size=(256, 128),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            interpolation="bilinear",
            train_interpolation="bicubic",
        ),
        "hands": ImageSpec(image_size=(224, 224), interpolation="bilinear"),
        "hands-portrait": ImageSpec(image_size=(224, 128), interpolation="bilinear"),
    }
)
"""Specs of CLIP's own preprocessing, of CLIP-ReID, and of a hand pipeline."""

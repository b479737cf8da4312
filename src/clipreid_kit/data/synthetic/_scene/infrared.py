"""Draw a scene as an infrared camera sees it: grey, inverted, blurred and noisy."""

import numpy as np
from PIL import Image, ImageFilter

_WEIGHTS = np.array([0.55, 0.30, 0.15], dtype=np.float32)  # red is nearest to infrared
_BLUR = 0.5  # pixels of a frame of 64
_GAIN = 0.85
_NOISE = 0.04


def infrared_image(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turn the image of a visible camera into that of an infrared one.

    Dark materials are warm, and bright in the result; colours of one lightness become alike.

    Args:
        image: An RGB image.
        rng: Chooses exposure and noise.

    Returns:
        An RGB image of the same size with three equal channels.
    """
    radius = _BLUR * min(image.size) / 64.0
    blurred = image.filter(ImageFilter.GaussianBlur(radius))
    grey = np.asarray(blurred, dtype=np.float32) @ _WEIGHTS / 255.0

    exposure = float(rng.normal(0.0, 0.05))
    warmth = 0.5 + _GAIN * (0.5 - grey) + exposure
    warmth = warmth + _NOISE * rng.standard_normal(warmth.shape, dtype=np.float32)

    levels = np.rint(np.clip(warmth, 0.0, 1.0) * 255.0).astype(np.uint8)
    return Image.fromarray(levels).convert("RGB")

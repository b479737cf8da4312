"""Cameras: the properties that all images of one camera share."""

from dataclasses import dataclass

import numpy as np

from clipreid_kit.data.synthetic._scene.backgrounds import BACKGROUNDS

_STREAM = 2  # separates these random draws from those of identities, views and captions

# Gains of red, green and blue.
_CASTS = (
    (1.0, 1.0, 1.0),  # daylight
    (1.12, 1.0, 0.8),  # tungsten
    (0.86, 0.98, 1.12),  # shade
    (0.94, 1.06, 0.92),  # fluorescent
    (1.08, 0.92, 1.04),  # dusk
    (1.03, 1.01, 0.95),  # neutral
    (1.02, 1.04, 0.84),  # old glass
    (0.92, 0.98, 1.06),  # screen
)


@dataclass(frozen=True, slots=True)
class Camera:
    """The character of one camera.

    Attributes:
        background: Kind of place that it looks at.
        hue: Hue of that place, in [0, 1).
        lightness: Lightness of that place, in [0, 1].
        scale: Smallest and largest size of an object, relative to the frame.
        squash: Height relative to width; below 1 when seen from above or below.
        lean: Mean rotation, in degrees.
        brightness: Offset of every channel, for pixels in [0, 1].
        contrast: Factor about mid-grey.
        cast: Gain of red, green and blue.
        light_angle: Direction that the light comes from, in radians.
        light: Strength of the light's fall-off across the frame.
        blur: Radius in pixels for a frame of 64 pixels.
        noise: Standard deviation of the sensor noise, for pixels in [0, 1].
    """

    background: str
    hue: float
    lightness: float
    scale: tuple[float, float]
    squash: float
    lean: float
    brightness: float
    contrast: float
    cast: tuple[float, float, float]
    light_angle: float
    light: float
    blur: float
    noise: float


def make_camera(number: int, seed: int) -> Camera:
    """Draw the character of camera ``number``.

    Backgrounds and colour casts repeat only after each of them has been used.

    Example:
        >>> make_camera(2, seed=0) == make_camera(2, seed=0)
        True
    """
    order = np.random.default_rng((seed, _STREAM))
    backgrounds = order.permutation(len(BACKGROUNDS))
    casts = order.permutation(len(_CASTS))

    # The order of the draws is part of the data set: another order gives other cameras.
    rng = np.random.default_rng((seed, _STREAM, number + 1))
    smallest = float(rng.uniform(0.74, 0.86))

    strength = float(rng.uniform(0.5, 0.9))
    gains = _CASTS[casts[number % len(_CASTS)]]
    red, green, blue = (1.0 + strength * (gain - 1.0) for gain in gains)

    return Camera(
        background=BACKGROUNDS[backgrounds[number % len(BACKGROUNDS)]],
        hue=float(rng.random()),
        lightness=float(rng.uniform(0.5, 0.86)),
        scale=(smallest, smallest + float(rng.uniform(0.1, 0.18))),
        squash=float(rng.uniform(0.86, 1.04)),
        lean=float(rng.uniform(-8.0, 8.0)),
        brightness=float(rng.uniform(-0.09, 0.06)),
        contrast=float(rng.uniform(0.82, 1.1)),
        cast=(red, green, blue),
        light_angle=float(rng.uniform(0.0, 2.0 * np.pi)),
        light=float(rng.uniform(0.08, 0.26)),
        blur=float(rng.uniform(0.0, 0.55)),
        noise=float(rng.uniform(0.006, 0.024)),
    )

"""Mean and standard deviation by which the images of a model are normalised."""

from collections.abc import Sequence

Colour = tuple[float, float, float]


def as_colour(values: Sequence[float]) -> Colour:
    """Convert three numbers, one for each channel, to a tuple of floats."""
    red, green, blue = values
    return float(red), float(green), float(blue)

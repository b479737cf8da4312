"""Patterns: the regions of a surface that carry its second colour."""

import numpy as np
from jaxtyping import Bool, Float

PATTERNS = (
    "plain",
    "horizontal stripes",
    "vertical stripes",
    "diagonal stripes",
    "dots",
    "checks",
    "zigzags",
    "grid lines",
)


def pattern_mask(
    pattern: str, x: Float[np.ndarray, "h w"], y: Float[np.ndarray, "h w"], period: float
) -> Bool[np.ndarray, "h w"]:
    """Compute the pixels that carry the second colour.

    Args:
        pattern: One of ``PATTERNS``; ``plain`` has no second colour at all.
        x: Object coordinate of every pixel.
        y: Object coordinate of every pixel.
        period: Width of one stripe and one gap together, in object units.

    Returns:
        True where the second colour shows.

    Example:
        >>> x, y = np.zeros((4, 1)), np.array([[0.0], [0.1], [0.2], [0.3]])
        >>> pattern_mask("horizontal stripes", x, y, 0.2).ravel().tolist()
        [True, False, True, False]
    """
    if pattern == "horizontal stripes":
        return (y / period) % 1.0 < 0.48

    if pattern == "vertical stripes":
        return (x / period + 0.24) % 1.0 < 0.48

    if pattern == "diagonal stripes":
        slanted: Float[np.ndarray, "h w"] = x + y
        return slanted / (1.3 * period) % 1.0 < 0.48

    if pattern == "checks":
        column, row = np.floor(1.6 * x / period), np.floor(1.6 * y / period)
        squares: Float[np.ndarray, "h w"] = column + row
        return squares % 2.0 < 0.5

    if pattern == "zigzags":
        offset = 0.45 * np.abs((x / (1.25 * period)) % 1.0 - 0.5) * 2.0
        return (y / (1.25 * period) + offset) % 1.0 < 0.45

    if pattern == "grid lines":
        vertical = (x / (1.3 * period) + 0.11) % 1.0 < 0.22
        horizontal = (y / (1.3 * period)) % 1.0 < 0.22
        return vertical | horizontal

    if pattern == "dots":
        row = np.floor(y / period)
        across = (x / period + 0.5 * (row % 2.0)) % 1.0 - 0.5
        down = (y / period) % 1.0 - 0.5
        return across * across + down * down < 0.31**2

    return np.zeros(x.shape, dtype=bool)

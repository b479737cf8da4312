"""Backgrounds: the places that cameras look at."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw

from clipreid_kit.data.synthetic.identities import Rgb

BACKGROUNDS = ("wall", "planks", "tiles", "bricks", "lights", "curtain", "hills", "paving")

Tones = tuple[Rgb, Rgb, Rgb]  # base, light, dark

_WHITE: Rgb = (255, 255, 255)


def draw_background(
    kind: str, hue: float, lightness: float, size: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """Draw one view of a place.

    Args:
        kind: One of ``BACKGROUNDS``.
        hue: Its hue, in [0, 1).
        lightness: Its lightness, in [0, 1].
        size: (width, height) in pixels.
        rng: Chooses the section of the place that is visible.

    Returns:
        An RGB image of that size.
    """
    base = _tone(hue, lightness)
    light = _tone(hue, lightness + 0.07)
    dark = _tone(hue, lightness - 0.09)

    image = Image.new("RGB", size, base)
    draw_kind = {
        "wall": _wall,
        "planks": _planks,
        "tiles": _tiles,
        "bricks": _bricks,
        "lights": _lights,
        "curtain": _curtain,
        "hills": _hills,
        "paving": _paving,
    }[kind]
    draw_kind(ImageDraw.Draw(image), size, rng, (base, light, dark))
    return image


def mixed(first: Rgb, second: Rgb, part: float) -> Rgb:
    """Blend two colours; ``part`` 0 is the first and 1 the second."""
    red, green, blue = (round(a + part * (b - a)) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _tone(hue: float, lightness: float, saturation: float = 0.24) -> Rgb:
    red, green, blue = colorsys.hls_to_rgb(hue, min(max(lightness, 0.0), 1.0), saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def _wall(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    width, height = size
    base, light, dark = tones
    floor = height * rng.uniform(0.66, 0.84)

    for step in range(12):
        strip = (0, floor * step / 12, width, floor * (step + 1) / 12)
        draw.rectangle(strip, fill=mixed(light, base, step / 11))

    draw.rectangle((0, floor, width, height), fill=dark)
    skirting_board = (0, floor - height * 0.03, width, floor)
    draw.rectangle(skirting_board, fill=mixed(light, _WHITE, 0.5))


def _planks(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    width, height = size
    base, light, dark = tones
    board = min(size) * 0.19
    gap = max(1, round(board * 0.07))
    top = -rng.uniform(0.0, board)

    while top < height:
        fill = mixed(base, light, rng.uniform(-0.5, 1.0))
        draw.rectangle((0, top, width, top + board), fill=fill)
        draw.line((0, top, width, top), fill=dark, width=gap)

        joint = rng.uniform(0.0, width)
        draw.line((joint, top, joint, top + board), fill=dark, width=gap)
        top += board


def _tiles(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    width, height = size
    base, light, dark = tones
    side = min(size) * 0.26
    gap = max(1, round(side * 0.04))
    left, top = rng.uniform(0.0, side, size=2)

    for row in range(-1, int(height / side) + 2):
        for column in range(-1, int(width / side) + 2):
            x = column * side + left
            y = row * side + top
            fill = light if (row + column) % 2 == 0 else base
            draw.rectangle((x, y, x + side, y + side), fill=fill, outline=dark, width=gap)


def _bricks(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    width, height = size
    base, light, dark = tones
    brick_height = min(size) * 0.13
    brick_width = 2.1 * brick_height
    left = rng.uniform(0.0, brick_width)
    top = rng.uniform(0.0, brick_height)
    joint = max(1.0, brick_height * 0.12)

    draw.rectangle((0, 0, width, height), fill=mixed(light, _WHITE, 0.35))
    for row in range(-1, int(height / brick_height) + 2):
        for column in range(-2, int(width / brick_width) + 2):
            # Every other row is shifted by half a brick.
            x = (column + 0.5 * (row % 2)) * brick_width + left
            y = row * brick_height + top
            brick = (x, y, x + brick_width - joint, y + brick_height - joint)
            draw.rectangle(brick, fill=mixed(base, dark, rng.uniform(0.0, 1.0)))


def _lights(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    width, height = size
    base, light, dark = tones
    side = min(size)

    draw.rectangle((0, 0, width, height), fill=dark)
    for _ in range(16):
        x = rng.uniform(0.0, width)
        y = rng.uniform(0.0, height)
        radius = side * rng.uniform(0.06, 0.17)
        fill = mixed(base, light, rng.uniform(0.0, 1.6))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _curtain(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    width, height = size
    _, light, dark = tones
    fold = min(size) * 0.22
    left = -rng.uniform(0.0, fold)
    steps = 10

    while left < width:
        for step in range(steps):
            part = 0.5 - 0.5 * np.cos(2.0 * np.pi * step / steps)
            x = left + fold * step / steps
            strip = (x, 0, x + fold / steps + 1, height)
            draw.rectangle(strip, fill=mixed(dark, light, float(part)))
        left += fold


def _hills(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    width, height = size
    base, light, dark = tones

    draw.rectangle((0, 0, width, height), fill=mixed(light, _WHITE, 0.55))
    x = np.linspace(0.0, 1.0, 25)
    for level, fill in ((0.5, light), (0.66, base), (0.82, dark)):
        rise = 0.07 * np.sin(2.0 * np.pi * (x * rng.uniform(0.8, 1.6) + rng.random()))
        ridge = np.stack([x * width, (level + rise) * height], axis=1)
        outline = [*map(tuple, ridge.tolist()), (width, height), (0, height)]
        draw.polygon(outline, fill=fill)


def _paving(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    width, height = size
    base, light, dark = tones
    side = min(size) * 0.3
    left, top = rng.uniform(-side, 0.0, size=2)

    draw.rectangle((0, 0, width, height), fill=dark)
    for row in range(int(height / side) + 3):
        for column in range(-1, int(width / side) + 3):
            x = left + (column + 0.33 * (row % 3)) * side
            y = top + row * side
            slab = (x, y, x + side * 0.94, y + side * 0.94)
            fill = mixed(base, light, rng.uniform(-0.6, 1.0))
            draw.rounded_rectangle(slab, radius=side * 0.1, fill=fill)

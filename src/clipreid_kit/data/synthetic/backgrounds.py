"""Places that cameras look at."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw

BACKGROUNDS = ("wall", "planks", "tiles", "bricks", "lights", "curtain", "hills", "paving")


def draw_background(
    kind: str, hue: float, lightness: float, size: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """Draw one view of a place.

    Args:
        kind: One of ``BACKGROUNDS``.
        hue: Its hue, in [0, 1).
        lightness: Its lightness, in [0, 1].
        size: (width, height) in pixels.
        rng: Chooses what part of the place is seen.

    Returns:
        An RGB picture of that size.
    """
    base, light, dark = (_tone(hue, lightness + step) for step in (0.0, 0.07, -0.09))
    picture = Image.new("RGB", size, base)
    draw = ImageDraw.Draw(picture)
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
    draw_kind(draw, size, rng, (base, light, dark))
    return picture


Rgb = tuple[int, int, int]
Tones = tuple[Rgb, Rgb, Rgb]


def _tone(hue: float, lightness: float, saturation: float = 0.24) -> Rgb:
    red, green, blue = colorsys.hls_to_rgb(hue, min(max(lightness, 0.0), 1.0), saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def _mixed(first: Rgb, second: Rgb, part: float) -> Rgb:
    red, green, blue = (round(a + part * (b - a)) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _wall(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    width, height = size
    base, light, dark = tones
    floor = height * rng.uniform(0.66, 0.84)
    for step in range(12):
        draw.rectangle(
            (0, floor * step / 12, width, floor * (step + 1) / 12),
            fill=_mixed(light, base, step / 11),
        )
    draw.rectangle((0, floor, width, height), fill=dark)
    draw.rectangle(
        (0, floor - height * 0.03, width, floor), fill=_mixed(light, (255, 255, 255), 0.5)
    )


def _planks(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    width, height = size
    base, light, dark = tones
    board = min(size) * 0.19
    top = -rng.uniform(0.0, board)
    while top < height:
        draw.rectangle(
            (0, top, width, top + board), fill=_mixed(base, light, rng.uniform(-0.5, 1.0))
        )
        draw.line((0, top, width, top), fill=dark, width=max(1, round(board * 0.07)))
        joint = rng.uniform(0.0, width)
        draw.line((joint, top, joint, top + board), fill=dark, width=max(1, round(board * 0.07)))
        top += board


def _tiles(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    base, light, dark = tones
    side = min(size) * 0.26
    left, top = rng.uniform(0.0, side, size=2)
    for row in range(-1, int(size[1] / side) + 2):
        for column in range(-1, int(size[0] / side) + 2):
            x, y = column * side + left, row * side + top
            fill = light if (row + column) % 2 == 0 else base
            draw.rectangle(
                (x, y, x + side, y + side),
                fill=fill,
                outline=dark,
                width=max(1, round(side * 0.04)),
            )


def _bricks(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    base, light, dark = tones
    high = min(size) * 0.13
    wide = 2.1 * high
    left, top = rng.uniform(0.0, wide), rng.uniform(0.0, high)
    joint = max(1.0, high * 0.12)
    draw.rectangle((0, 0, *size), fill=_mixed(light, (255, 255, 255), 0.35))
    for row in range(-1, int(size[1] / high) + 2):
        for column in range(-2, int(size[0] / wide) + 2):
            x, y = (column + 0.5 * (row % 2)) * wide + left, row * high + top
            fill = _mixed(base, dark, rng.uniform(0.0, 1.0))
            draw.rectangle((x, y, x + wide - joint, y + high - joint), fill=fill)


def _lights(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    base, light, dark = tones
    side = min(size)
    draw.rectangle((0, 0, *size), fill=dark)
    for _ in range(16):
        x, y = rng.uniform(0.0, size[0]), rng.uniform(0.0, size[1])
        radius = side * rng.uniform(0.06, 0.17)
        fill = _mixed(base, light, rng.uniform(0.0, 1.6))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _curtain(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    _, light, dark = tones
    fold = min(size) * 0.22
    left = -rng.uniform(0.0, fold)
    steps = 10
    while left < size[0]:
        for step in range(steps):
            part = 0.5 - 0.5 * np.cos(2.0 * np.pi * step / steps)
            x = left + fold * step / steps
            draw.rectangle(
                (x, 0, x + fold / steps + 1, size[1]), fill=_mixed(dark, light, float(part))
            )
        left += fold


def _hills(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    width, height = size
    base, light, dark = tones
    draw.rectangle((0, 0, width, height), fill=_mixed(light, (255, 255, 255), 0.55))
    x = np.linspace(0.0, 1.0, 25)
    for level, fill in ((0.5, light), (0.66, base), (0.82, dark)):
        rise = 0.07 * np.sin(2.0 * np.pi * (x * rng.uniform(0.8, 1.6) + rng.random()))
        ridge = [
            (float(a), float(b)) for a, b in zip(x * width, (level + rise) * height, strict=True)
        ]
        draw.polygon([*ridge, (width, height), (0, height)], fill=fill)


def _paving(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, tones: Tones
) -> None:
    base, light, dark = tones
    side = min(size) * 0.3
    left, top = rng.uniform(-side, 0.0, size=2)
    draw.rectangle((0, 0, *size), fill=dark)
    for row in range(int(size[1] / side) + 3):
        for column in range(-1, int(size[0] / side) + 3):
            x, y = left + (column + 0.33 * (row % 3)) * side, top + row * side
            fill = _mixed(base, light, rng.uniform(-0.6, 1.0))
            draw.rounded_rectangle(
                (x, y, x + side * 0.94, y + side * 0.94), radius=side * 0.1, fill=fill
            )

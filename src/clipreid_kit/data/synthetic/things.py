"""Drawings of things to carry and to keep in a house."""

from clipreid_kit.data.synthetic.geometry import (
    Part,
    Place,
    Shape,
    box,
    ellipse,
    flipped,
    smooth,
    smooth_line,
    symmetric,
)


def handbag() -> Shape:
    """A handbag with one arched handle and a flap."""
    body = [(0.0, -0.22), (0.66, -0.22), (0.74, -0.14), (0.92, 0.72), (0.8, 0.86), (0.0, 0.86)]
    flap = [(0.0, -0.24), (0.64, -0.24), (0.76, -0.16), (0.8, 0.08), (0.4, 0.26), (0.0, 0.34)]
    return Shape(
        (
            Part(
                smooth_line([(-0.46, -0.16), (-0.5, -0.98), (0.5, -0.98), (0.46, -0.16)], 4),
                "second",
                width=0.12,
            ),
            Part(smooth(symmetric(body)), "fabric"),
            Part(smooth(symmetric(flap)), "second"),
            Part(box(-0.1, 0.18, 0.1, 0.42, 0.05), "metal"),
        ),
        (
            Place("on the front", 0.0, 0.64, 0.18),
            Place("in the corner", 0.54, 0.56, 0.2),
            Place("on the flap", 0.44, 0.0, 0.15),
        ),
    )


def suitcase() -> Shape:
    """A trolley case with a long handle, two bands and wheels."""
    wheel = ellipse(0.42, 0.9, 0.11, 0.1)
    belt = box(0.32, -0.46, 0.46, 0.84, 0.02)
    return Shape(
        (
            Part(
                smooth_line([(-0.26, -0.4), (-0.26, -0.96), (0.26, -0.96), (0.26, -0.4)], 2),
                "metal",
                width=0.08,
            ),
            Part(wheel, "ink"),
            Part(flipped(wheel), "ink"),
            Part(box(-0.68, -0.5, 0.68, 0.86, 0.16), "fabric"),
            Part(belt, "second"),
            Part(flipped(belt), "second"),
            Part(
                smooth_line([(-0.14, -0.5), (-0.14, -0.62), (0.14, -0.62), (0.14, -0.5)], 2),
                "second",
                width=0.08,
            ),
        ),
        (
            Place("near the top", 0.0, -0.18, 0.23),
            Place("in the middle", 0.0, 0.22, 0.23),
            Place("near the bottom", 0.0, 0.58, 0.2),
        ),
    )


def umbrella() -> Shape:
    """An open umbrella with a curved handle."""
    rim = [
        (0.98, 0.12),
        (0.82, -0.02),
        (0.6, -0.02),
        (0.36, 0.14),
        (0.36, 0.14),
        (0.18, 0.02),
        (0.0, 0.02),
    ]
    dome = [(0.0, -0.82), (0.3, -0.82), (0.74, -0.62), (0.98, 0.12), *rim]
    rib = smooth_line([(0.0, -0.8), (0.26, -0.5), (0.36, 0.12)])
    cap = [(0.0, -0.86), (0.14, -0.84), (0.22, -0.7), (0.0, -0.64)]
    return Shape(
        (
            Part(smooth_line([(0.0, -0.1), (0.0, 0.66)]), "wood", width=0.08),
            Part(
                smooth_line([(0.0, 0.5), (0.0, 0.98), (0.34, 0.98), (0.34, 0.74)]),
                "second",
                width=0.13,
            ),
            Part(smooth_line([(0.0, -0.98), (0.0, -0.8)]), "wood", width=0.07),
            Part(smooth(symmetric(dome)), "fabric"),
            Part(rib, "ink", width=0.028, outlined=False),
            Part(flipped(rib), "ink", width=0.028, outlined=False),
            Part(smooth(symmetric(cap)), "second"),
        ),
        (
            Place("on the middle panel", 0.0, -0.26, 0.21),
            Place("on a side panel", 0.58, -0.3, 0.19),
        ),
    )


def mug() -> Shape:
    """A mug with its handle on the right."""
    body = (
        [(-0.7, -0.66)] * 2
        + [(0.46, -0.66)] * 2
        + [(0.44, 0.6), (0.34, 0.84), (-0.58, 0.84), (-0.68, 0.6)]
    )
    handle = smooth_line([(0.4, -0.36), (0.98, -0.42), (0.98, 0.42), (0.38, 0.4)])
    foot = (
        [(-0.69, 0.52)] * 2
        + [(-0.12, 0.58)]
        + [(0.45, 0.52)] * 2
        + [(0.4, 0.84), (-0.12, 0.9), (-0.64, 0.84)]
    )
    return Shape(
        (
            Part(handle, "second", width=0.17),
            Part(smooth(body), "fabric"),
            Part(smooth(foot), "second"),
            Part(ellipse(-0.12, -0.66, 0.59, 0.15), "second"),
            Part(ellipse(-0.12, -0.65, 0.48, 0.1), "hollow", outlined=False),
        ),
        (
            Place("on the front", -0.12, -0.0, 0.28),
            Place("on the side", -0.36, 0.22, 0.21),
            Place("below the rim", 0.12, -0.24, 0.2),
        ),
    )


def teapot() -> Shape:
    """A round teapot, spout to the right."""
    spout = [
        (0.44, 0.36),
        (0.7, 0.2),
        (0.74, -0.3),
        (1.0, -0.44),
        (1.0, -0.26),
        (0.9, 0.2),
        (0.56, 0.66),
    ]
    body = [(0.0, -0.44), (0.4, -0.42), (0.7, 0.1), (0.56, 0.68), (0.34, 0.8), (0.0, 0.8)]
    lid = [(0.0, -0.66), (0.28, -0.62), (0.44, -0.4), (0.44, -0.36), (0.0, -0.3)]
    return Shape(
        (
            Part(
                smooth_line([(-0.48, -0.2), (-1.06, -0.4), (-1.02, 0.5), (-0.46, 0.44)]),
                "second",
                width=0.13,
            ),
            Part(smooth(spout), "main"),
            Part(smooth(symmetric(body)), "fabric"),
            Part(smooth(symmetric(lid)), "second"),
            Part(ellipse(0.0, -0.74, 0.12, 0.12), "second"),
            Part(box(-0.34, 0.74, 0.34, 0.88, 0.05), "second"),
        ),
        (
            Place("on the belly", 0.0, 0.18, 0.27),
            Place("near the handle", -0.32, 0.12, 0.19),
            Place("near the foot", 0.2, 0.46, 0.19),
        ),
    )


def vase() -> Shape:
    """A vase with a narrow neck and an open rim."""
    half = [
        (0.0, -0.8),
        (0.34, -0.8),
        (0.34, -0.8),
        (0.18, -0.58),
        (0.2, -0.4),
        (0.74, -0.2),
        (0.74, 0.36),
        (0.34, 0.6),
    ]
    half += [(0.32, 0.9), (0.32, 0.9), (0.0, 0.92)]
    neck = [(0.0, -0.54), (0.2, -0.56), (0.24, -0.36), (0.0, -0.32)]
    foot = [(0.0, 0.76), (0.33, 0.74), (0.33, 0.74), (0.38, 0.92), (0.38, 0.92), (0.0, 0.95)]
    return Shape(
        (
            Part(smooth(symmetric(half)), "fabric"),
            Part(smooth(symmetric(neck)), "second"),
            Part(smooth(symmetric(foot)), "second"),
            Part(ellipse(0.0, -0.8, 0.35, 0.11), "second"),
            Part(ellipse(0.0, -0.79, 0.25, 0.06), "hollow", outlined=False),
        ),
        (
            Place("on the belly", 0.0, 0.06, 0.27),
            Place("on the shoulder", 0.3, -0.06, 0.2),
            Place("above the foot", 0.0, 0.44, 0.2),
        ),
    )


def lamp() -> Shape:
    """A table lamp with a conical shade."""
    shade = [(0.0, -0.88), (0.4, -0.88), (0.4, -0.88), (0.78, 0.1), (0.78, 0.1), (0.0, 0.14)]
    hem = [(0.0, 0.0), (0.73, -0.03), (0.73, -0.03), (0.81, 0.15), (0.81, 0.15), (0.0, 0.2)]
    stem = [
        (0.0, 0.1),
        (0.1, 0.1),
        (0.06, 0.3),
        (0.2, 0.46),
        (0.06, 0.66),
        (0.12, 0.86),
        (0.0, 0.86),
    ]
    return Shape(
        (
            Part(smooth(symmetric(stem)), "wood"),
            Part(smooth(symmetric(shade)), "fabric"),
            Part(smooth(symmetric(hem)), "second"),
            Part(box(-0.42, -0.92, 0.42, -0.78, 0.04), "second"),
            Part(
                smooth([(-0.4, 0.94)] * 2 + [(-0.36, 0.78), (0.36, 0.78)] + [(0.4, 0.94)] * 2),
                "second",
            ),
        ),
        (
            Place("on the shade", 0.0, -0.36, 0.25),
            Place("near the top of the shade", 0.16, -0.54, 0.19),
            Place("low on the shade", -0.4, -0.2, 0.19),
        ),
    )


def armchair() -> Shape:
    """An armchair seen from the front, with a seat cushion."""
    arm = box(0.52, -0.16, 0.94, 0.72, 0.17)
    leg = smooth(
        [(0.56, 0.66)] * 2 + [(0.78, 0.66)] * 2 + [(0.72, 0.96)] * 2 + [(0.62, 0.96)] * 2, 1
    )
    return Shape(
        (
            Part(leg, "wood"),
            Part(flipped(leg), "wood"),
            Part(box(-0.66, -0.9, 0.66, 0.5, 0.3), "fabric"),
            Part(box(-0.62, 0.36, 0.62, 0.74, 0.06), "fabric"),
            Part(box(-0.58, 0.12, 0.58, 0.44, 0.12), "second"),
            Part(arm, "fabric"),
            Part(flipped(arm), "fabric"),
        ),
        (
            Place("on the back", 0.0, -0.36, 0.26),
            Place("at the top of the back", 0.28, -0.58, 0.18),
            Place("on the arm", 0.73, 0.24, 0.17),
        ),
    )

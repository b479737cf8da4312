"""Drawings of household objects."""

from clipreid_kit.data.synthetic._objects.geometry import (
    MarkPlace,
    Part,
    Shape,
    both_sides,
    box,
    ellipse,
    sharp,
    smooth,
    smooth_line,
    symmetric,
)


def mug() -> Shape:
    """A mug with its handle on the right."""
    rim = sharp((-0.7, -0.66), (0.46, -0.66))
    body = smooth([*rim, (0.44, 0.6), (0.34, 0.84), (-0.58, 0.84), (-0.68, 0.6)])
    handle = smooth_line([(0.4, -0.36), (0.98, -0.42), (0.98, 0.42), (0.38, 0.4)])

    foot_top = [*sharp((-0.69, 0.52)), (-0.12, 0.58), *sharp((0.45, 0.52))]
    foot = smooth([*foot_top, (0.4, 0.84), (-0.12, 0.9), (-0.64, 0.84)])

    return Shape(
        parts=(
            Part(handle, "second", width=0.17),
            Part(body, "fabric"),
            Part(foot, "second"),
            Part(ellipse(-0.12, -0.66, 0.59, 0.15), "second"),
            Part(ellipse(-0.12, -0.65, 0.48, 0.1), "hollow", outlined=False),
        ),
        places=(
            MarkPlace("on the front", -0.12, -0.0, 0.28),
            MarkPlace("on the side", -0.36, 0.22, 0.21),
            MarkPlace("below the rim", 0.12, -0.24, 0.2),
        ),
    )


def teapot() -> Shape:
    """A round teapot, spout to the right."""
    handle = smooth_line([(-0.48, -0.2), (-1.06, -0.4), (-1.02, 0.5), (-0.46, 0.44)])
    spout_top = [(0.44, 0.36), (0.7, 0.2), (0.74, -0.3), (1.0, -0.44)]
    spout_bottom = [(1.0, -0.26), (0.9, 0.2), (0.56, 0.66)]
    body = [(0.0, -0.44), (0.4, -0.42), (0.7, 0.1), (0.56, 0.68), (0.34, 0.8), (0.0, 0.8)]
    lid = [(0.0, -0.66), (0.28, -0.62), (0.44, -0.4), (0.44, -0.36), (0.0, -0.3)]

    return Shape(
        parts=(
            Part(handle, "second", width=0.13),
            Part(smooth([*spout_top, *spout_bottom]), "main"),
            Part(smooth(symmetric(body)), "fabric"),
            Part(smooth(symmetric(lid)), "second"),
            Part(ellipse(0.0, -0.74, 0.12, 0.12), "second"),
            Part(box(-0.34, 0.74, 0.34, 0.88, radius=0.05), "second"),
        ),
        places=(
            MarkPlace("on the belly", 0.0, 0.18, 0.27),
            MarkPlace("near the handle", -0.32, 0.12, 0.19),
            MarkPlace("near the foot", 0.2, 0.46, 0.19),
        ),
    )


def vase() -> Shape:
    """A vase with a narrow neck and an open rim."""
    throat = [(0.0, -0.8), *sharp((0.34, -0.8)), (0.18, -0.58), (0.2, -0.4)]
    belly = [(0.74, -0.2), (0.74, 0.36), (0.34, 0.6), *sharp((0.32, 0.9)), (0.0, 0.92)]
    neck = [(0.0, -0.54), (0.2, -0.56), (0.24, -0.36), (0.0, -0.32)]
    foot = [(0.0, 0.76), *sharp((0.33, 0.74), (0.38, 0.92)), (0.0, 0.95)]

    return Shape(
        parts=(
            Part(smooth(symmetric([*throat, *belly])), "fabric"),
            Part(smooth(symmetric(neck)), "second"),
            Part(smooth(symmetric(foot)), "second"),
            Part(ellipse(0.0, -0.8, 0.35, 0.11), "second"),
            Part(ellipse(0.0, -0.79, 0.25, 0.06), "hollow", outlined=False),
        ),
        places=(
            MarkPlace("on the belly", 0.0, 0.06, 0.27),
            MarkPlace("on the shoulder", 0.3, -0.06, 0.2),
            MarkPlace("above the foot", 0.0, 0.44, 0.2),
        ),
    )


def lamp() -> Shape:
    """A table lamp with a conical shade."""
    stem_top = [(0.0, 0.1), (0.1, 0.1), (0.06, 0.3), (0.2, 0.46)]
    stem_bottom = [(0.06, 0.66), (0.12, 0.86), (0.0, 0.86)]
    shade = [(0.0, -0.88), *sharp((0.4, -0.88), (0.78, 0.1)), (0.0, 0.14)]
    hem = [(0.0, 0.0), *sharp((0.73, -0.03), (0.81, 0.15)), (0.0, 0.2)]
    foot = [*sharp((-0.4, 0.94)), (-0.36, 0.78), (0.36, 0.78), *sharp((0.4, 0.94))]

    return Shape(
        parts=(
            Part(smooth(symmetric([*stem_top, *stem_bottom])), "wood"),
            Part(smooth(symmetric(shade)), "fabric"),
            Part(smooth(symmetric(hem)), "second"),
            Part(box(-0.42, -0.92, 0.42, -0.78, radius=0.04), "second"),
            Part(smooth(foot), "second"),
        ),
        places=(
            MarkPlace("on the shade", 0.0, -0.36, 0.25),
            MarkPlace("near the top of the shade", 0.16, -0.54, 0.19),
            MarkPlace("low on the shade", -0.4, -0.2, 0.19),
        ),
    )


def armchair() -> Shape:
    """An armchair seen from the front, with a seat cushion."""
    leg = smooth(sharp((0.56, 0.66), (0.78, 0.66), (0.72, 0.96), (0.62, 0.96)), rounds=1)
    back = box(-0.66, -0.9, 0.66, 0.5, radius=0.3)
    base = box(-0.62, 0.36, 0.62, 0.74, radius=0.06)
    cushion = box(-0.58, 0.12, 0.58, 0.44, radius=0.12)
    arm = box(0.52, -0.16, 0.94, 0.72, radius=0.17)

    return Shape(
        parts=(
            *both_sides(Part(leg, "wood")),
            Part(back, "fabric"),
            Part(base, "fabric"),
            Part(cushion, "second"),
            *both_sides(Part(arm, "fabric")),
        ),
        places=(
            MarkPlace("on the back", 0.0, -0.36, 0.26),
            MarkPlace("at the top of the back", 0.28, -0.58, 0.18),
            MarkPlace("on the arm", 0.73, 0.24, 0.17),
        ),
    )

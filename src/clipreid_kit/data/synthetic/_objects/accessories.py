"""Drawings of headgear, bags and umbrellas."""

from clipreid_kit.data.synthetic._objects.geometry import (
    MarkPlace,
    Part,
    Shape,
    both_sides,
    box,
    ellipse,
    seam,
    sharp,
    smooth,
    smooth_line,
    symmetric,
)


def hat() -> Shape:
    """A brimmed hat with a ribbon."""
    brim = ellipse(0.0, 0.32, 1.0, 0.3)
    underside = ellipse(0.0, 0.3, 0.7, 0.17)

    crown_top = [(0.0, -0.56), (0.16, -0.68), (0.46, -0.62), (0.56, 0.2)]
    crown = smooth(symmetric([*crown_top, *sharp((0.6, 0.34)), (0.0, 0.4)]))
    crease = seam([(-0.2, -0.5), (0.0, -0.38), (0.2, -0.5)])

    ribbon_top = [*sharp((-0.56, 0.08)), (0.0, 0.16), *sharp((0.56, 0.08))]
    ribbon_bottom = [*sharp((0.6, 0.32)), (0.0, 0.44), *sharp((-0.6, 0.32))]
    ribbon = smooth([*ribbon_top, *ribbon_bottom])

    return Shape(
        parts=(
            Part(brim, "fabric"),
            Part(underside, "deep", outlined=False),
            Part(crown, "fabric"),
            Part(ribbon, "second"),
            crease,
        ),
        places=(
            MarkPlace("on the crown", 0.0, -0.17, 0.21),
            MarkPlace("beside the crease", 0.28, -0.3, 0.17),
            MarkPlace("on the brim", -0.78, 0.36, 0.13),
        ),
    )


def helmet() -> Shape:
    """A bicycle helmet seen from the side, front to the right."""
    back = [*sharp((-0.92, 0.22)), (-0.94, -0.3), (-0.5, -0.76)]
    front = [(0.1, -0.84), (0.7, -0.56), (0.98, 0.04), *sharp((0.94, 0.2))]
    shell = smooth([*back, *front])

    vents = (
        [(-0.66, -0.16), (-0.5, -0.46), (-0.3, -0.62), (-0.36, -0.44), (-0.56, -0.1)],
        [(-0.1, -0.46), (0.0, -0.66), (0.3, -0.62), (0.36, -0.5), (0.1, -0.5)],
        [(0.54, -0.14), (0.5, -0.4), (0.66, -0.34), (0.84, -0.02), (0.7, -0.04)],
    )
    rim_top = [(-0.95, 0.1), (0.0, 0.16), (0.99, 0.06)]
    rim_bottom = [(1.02, 0.28), (0.0, 0.38), (-0.94, 0.34)]
    strap = seam([(-0.5, 0.26), (-0.1, 0.9), (0.04, 0.88), (0.3, 0.28)], width=0.06)
    buckle = ellipse(-0.02, 0.88, 0.09, 0.07)

    return Shape(
        parts=(
            strap,
            Part(shell, "fabric"),
            *(Part(smooth(vent), "hollow") for vent in vents),
            Part(smooth([*rim_top, *rim_bottom]), "second"),
            Part(buckle, "metal"),
        ),
        places=(
            MarkPlace("on the side", 0.12, -0.16, 0.22),
            MarkPlace("at the back", -0.42, -0.1, 0.17),
        ),
    )


def backpack() -> Shape:
    """A backpack with a front pocket and two side pockets."""
    loop = smooth_line([(-0.2, -0.76), (-0.18, -0.98), (0.18, -0.98), (0.2, -0.76)])
    side_pocket = smooth([(0.56, 0.1), (0.84, 0.16), (0.86, 0.74), (0.56, 0.8)])
    body = box(-0.64, -0.86, 0.64, 0.9, radius=0.34)
    strap = smooth_line([(0.3, -0.6), (0.3, -0.1)])
    zipper = seam([(-0.52, -0.46), (-0.3, -0.64), (0.3, -0.64), (0.52, -0.46)])
    front_pocket = box(-0.44, 0.2, 0.44, 0.76, radius=0.13)
    pocket_zipper = seam([(-0.36, 0.34), (0.36, 0.34)])

    return Shape(
        parts=(
            Part(loop, "second", width=0.09),
            *both_sides(Part(side_pocket, "deep")),
            Part(body, "fabric"),
            *both_sides(Part(strap, "second", width=0.1)),
            zipper,
            Part(front_pocket, "second"),
            pocket_zipper,
        ),
        places=(
            MarkPlace("on the front", 0.0, -0.2, 0.23),
            MarkPlace("on the pocket", 0.0, 0.54, 0.17),
        ),
    )


def handbag() -> Shape:
    """A handbag with one arched handle and a flap."""
    handle = smooth_line([(-0.46, -0.16), (-0.5, -0.98), (0.5, -0.98), (0.46, -0.16)], rounds=4)
    body = [(0.0, -0.22), (0.66, -0.22), (0.74, -0.14), (0.92, 0.72), (0.8, 0.86), (0.0, 0.86)]
    flap = [(0.0, -0.24), (0.64, -0.24), (0.76, -0.16), (0.8, 0.08), (0.4, 0.26), (0.0, 0.34)]
    clasp = box(-0.1, 0.18, 0.1, 0.42, radius=0.05)

    return Shape(
        parts=(
            Part(handle, "second", width=0.12),
            Part(smooth(symmetric(body)), "fabric"),
            Part(smooth(symmetric(flap)), "second"),
            Part(clasp, "metal"),
        ),
        places=(
            MarkPlace("on the front", 0.0, 0.64, 0.18),
            MarkPlace("in the corner", 0.54, 0.56, 0.2),
            MarkPlace("on the flap", 0.44, 0.0, 0.15),
        ),
    )


def suitcase() -> Shape:
    """A trolley case with a long handle, two bands and wheels."""
    pull = smooth_line([(-0.26, -0.4), (-0.26, -0.96), (0.26, -0.96), (0.26, -0.4)], rounds=2)
    wheel = ellipse(0.42, 0.9, 0.11, 0.1)
    body = box(-0.68, -0.5, 0.68, 0.86, radius=0.16)
    belt = box(0.32, -0.46, 0.46, 0.84, radius=0.02)
    handle = smooth_line([(-0.14, -0.5), (-0.14, -0.62), (0.14, -0.62), (0.14, -0.5)], rounds=2)

    return Shape(
        parts=(
            Part(pull, "metal", width=0.08),
            *both_sides(Part(wheel, "ink")),
            Part(body, "fabric"),
            *both_sides(Part(belt, "second")),
            Part(handle, "second", width=0.08),
        ),
        places=(
            MarkPlace("near the top", 0.0, -0.18, 0.23),
            MarkPlace("in the middle", 0.0, 0.22, 0.23),
            MarkPlace("near the bottom", 0.0, 0.58, 0.2),
        ),
    )


def umbrella() -> Shape:
    """An open umbrella with a curved handle."""
    dome_edge = [(0.0, -0.82), (0.3, -0.82), (0.74, -0.62)]
    rim_tip = [*sharp((0.98, 0.12)), (0.82, -0.02), (0.6, -0.02)]
    rim_middle = [*sharp((0.36, 0.14)), (0.18, 0.02), (0.0, 0.02)]
    dome = smooth(symmetric([*dome_edge, *rim_tip, *rim_middle]))

    stick = smooth_line([(0.0, -0.1), (0.0, 0.66)])
    handle = smooth_line([(0.0, 0.5), (0.0, 0.98), (0.34, 0.98), (0.34, 0.74)])
    tip = smooth_line([(0.0, -0.98), (0.0, -0.8)])
    rib = seam([(0.0, -0.8), (0.26, -0.5), (0.36, 0.12)], width=0.028)
    cap = smooth(symmetric([(0.0, -0.86), (0.14, -0.84), (0.22, -0.7), (0.0, -0.64)]))

    return Shape(
        parts=(
            Part(stick, "wood", width=0.08),
            Part(handle, "second", width=0.13),
            Part(tip, "wood", width=0.07),
            Part(dome, "fabric"),
            *both_sides(rib),
            Part(cap, "second"),
        ),
        places=(
            MarkPlace("on the middle panel", 0.0, -0.26, 0.21),
            MarkPlace("on a side panel", 0.58, -0.3, 0.19),
        ),
    )

"""Drawings of clothes."""

from clipreid_kit.data.synthetic._objects.geometry import (
    MarkPlace,
    Part,
    Shape,
    both_sides,
    box,
    seam,
    sharp,
    smooth,
    smooth_line,
    symmetric,
)


def t_shirt() -> Shape:
    """A short-sleeved shirt with a coloured collar and cuffs."""
    neckline = [(0.0, -0.58), (0.16, -0.62), *sharp((0.25, -0.82))]
    sleeve = [(0.5, -0.74), *sharp((0.97, -0.34), (0.74, -0.04), (0.5, -0.24))]
    hem = [*sharp((0.53, 0.86)), (0.0, 0.9)]
    body = smooth(symmetric([*neckline, *sleeve, *hem]))

    cuff = smooth(sharp((0.97, -0.34), (0.74, -0.04), (0.64, -0.12), (0.88, -0.42)), rounds=1)
    collar = smooth_line([(-0.26, -0.81), (-0.17, -0.6), (0.0, -0.55), (0.17, -0.6), (0.26, -0.81)])

    return Shape(
        parts=(
            Part(body, "fabric"),
            *both_sides(Part(cuff, "second")),
            Part(collar, "second", width=0.1),
        ),
        places=(
            MarkPlace("on the chest", 0.0, -0.1, 0.25),
            MarkPlace("near the hem", 0.24, 0.58, 0.2),
            MarkPlace("in the middle", 0.0, 0.24, 0.25),
        ),
    )


def jacket() -> Shape:
    """A zipped jacket with long sleeves, collar, cuffs and waistband."""
    shoulder = [(0.3, -0.74), (0.62, -0.7)]
    wrist = sharp((0.97, 0.44), (0.7, 0.54))
    sleeve = smooth([*shoulder, *wrist, (0.4, -0.1)])
    cuff = smooth(sharp((0.95, 0.38), (1.0, 0.58), (0.72, 0.68), (0.66, 0.48)), rounds=1)

    upper_body = [(0.0, -0.7), (0.24, -0.78), (0.46, -0.7), (0.52, -0.3)]
    body = smooth(symmetric([*upper_body, *sharp((0.52, 0.7)), (0.0, 0.7)]))
    waistband = box(-0.54, 0.66, 0.54, 0.86, radius=0.05)

    collar_tip = [(0.34, -0.74), (0.24, -0.92)]
    collar = smooth([*sharp((0.0, -0.44)), *collar_tip, *sharp((0.0, -0.84))])
    zipper = seam([(0.0, -0.44), (0.0, 0.84)], width=0.035)
    pocket = seam([(0.2, 0.42), (0.38, 0.24)], width=0.035)

    return Shape(
        parts=(
            *both_sides(Part(sleeve, "fabric")),
            *both_sides(Part(cuff, "second")),
            Part(body, "fabric"),
            Part(waistband, "second"),
            *both_sides(Part(collar, "second")),
            zipper,
            *both_sides(pocket),
        ),
        places=(
            MarkPlace("on the chest", 0.27, -0.22, 0.2),
            MarkPlace("above the waistband", 0.27, 0.5, 0.18),
            MarkPlace("on the sleeve", 0.68, 0.1, 0.17),
        ),
    )


def dress() -> Shape:
    """A sleeveless dress with a belt and a wide skirt."""
    neckline = [(0.0, -0.66), (0.13, -0.7)]
    strap = [*sharp((0.18, -0.94), (0.32, -0.94)), (0.3, -0.66)]
    waist = [(0.4, -0.5), *sharp((0.3, -0.14))]
    skirt = [(0.5, 0.3), *sharp((0.78, 0.86)), (0.4, 0.95), (0.0, 0.95)]
    body = smooth(symmetric([*neckline, *strap, *waist, *skirt]))

    fold = seam([(0.16, 0.1), (0.22, 0.5), (0.32, 0.88)], width=0.022)
    belt = box(-0.31, -0.2, 0.31, -0.03, radius=0.05)
    trim = smooth_line([(-0.25, -0.92), (-0.18, -0.7), (0.0, -0.64), (0.18, -0.7), (0.25, -0.92)])

    return Shape(
        parts=(
            Part(body, "fabric"),
            *both_sides(fold),
            Part(belt, "second"),
            Part(trim, "second", width=0.07),
        ),
        places=(
            MarkPlace("on the chest", 0.0, -0.4, 0.18),
            MarkPlace("on the skirt", 0.0, 0.34, 0.24),
            MarkPlace("near the hem", 0.36, 0.68, 0.2),
        ),
    )


def trousers() -> Shape:
    """Long trousers with a waistband and turn-ups."""
    waist = [(0.0, -0.78), *sharp((0.46, -0.78))]
    leg = [(0.56, -0.3), *sharp((0.6, 0.82), (0.16, 0.82))]
    crotch = [(0.05, -0.2), (0.0, -0.24)]
    body = smooth(symmetric([*waist, *leg, *crotch]))

    turn_up = box(0.13, 0.76, 0.63, 0.93, radius=0.04)
    waistband = box(-0.48, -0.9, 0.48, -0.7, radius=0.05)
    fly = seam([(0.0, -0.68), (0.0, -0.26)])
    pocket = seam([(0.3, -0.62), (0.36, -0.42), (0.52, -0.4)])

    return Shape(
        parts=(
            Part(body, "fabric"),
            *both_sides(Part(turn_up, "second")),
            Part(waistband, "second"),
            fly,
            *both_sides(pocket),
        ),
        places=(
            MarkPlace("on the thigh", 0.31, -0.08, 0.21),
            MarkPlace("on the knee", 0.36, 0.28, 0.2),
            MarkPlace("near the ankle", 0.38, 0.56, 0.18),
        ),
    )


def shoe() -> Shape:
    """A trainer seen from the side, toe to the right."""
    heel = [*sharp((-0.86, 0.3)), (-0.9, -0.2), (-0.8, -0.56), (-0.66, -0.5)]
    instep = [(-0.4, -0.38), (-0.14, -0.6), (-0.06, -0.56), (0.2, -0.18)]
    toe = [(0.66, 0.0), (0.94, 0.12), *sharp((0.96, 0.34))]
    upper = smooth([*heel, *instep, *toe])

    sole_top = [*sharp((-0.92, 0.26)), (0.96, 0.26), (1.02, 0.3)]
    sole_bottom = [(0.98, 0.52), (0.84, 0.56), (-0.84, 0.56), (-0.96, 0.5)]
    sole = smooth([*sole_top, *sole_bottom])

    tongue = smooth([(-0.3, -0.34), (-0.24, -0.74), (-0.1, -0.78), (0.02, -0.5), (0.0, -0.2)])
    toe_cap_front = [(0.58, 0.0), (0.94, 0.08), *sharp((0.98, 0.3))]
    toe_cap = smooth([*sharp((0.56, 0.3)), *toe_cap_front])
    heel_cap_top = [(-0.9, -0.16), (-0.6, -0.1)]
    heel_cap = smooth([*sharp((-0.87, 0.28)), *heel_cap_top, *sharp((-0.56, 0.28))])

    lace_ends = ((0.0, -0.44), (0.1, -0.3), (0.21, -0.17))
    laces = [smooth_line([(x - 0.13, y + 0.14), (x, y)]) for x, y in lace_ends]
    stripe = smooth_line([(-0.92, 0.42), (0.98, 0.42)])

    return Shape(
        parts=(
            Part(tongue, "deep"),
            Part(upper, "fabric"),
            Part(toe_cap, "second"),
            Part(heel_cap, "second"),
            *(Part(lace, "pale", width=0.07) for lace in laces),
            Part(sole, "pale"),
            Part(stripe, "second", width=0.05, outlined=False),
        ),
        places=(
            MarkPlace("on the side", -0.28, 0.0, 0.2),
            MarkPlace("behind the toe", 0.24, 0.09, 0.16),
        ),
    )

"""Drawings of things to wear."""

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


def t_shirt() -> Shape:
    """A short-sleeved shirt with a coloured collar and cuffs."""
    half = [
        (0.0, -0.58),
        (0.16, -0.62),
        (0.25, -0.82),
        (0.25, -0.82),
        (0.5, -0.74),
        (0.97, -0.34),
        (0.97, -0.34),
    ]
    half += [
        (0.74, -0.04),
        (0.74, -0.04),
        (0.5, -0.24),
        (0.5, -0.24),
        (0.53, 0.86),
        (0.53, 0.86),
        (0.0, 0.9),
    ]
    cuff = smooth(
        [(0.97, -0.34)] * 2 + [(0.74, -0.04)] * 2 + [(0.64, -0.12)] * 2 + [(0.88, -0.42)] * 2, 1
    )
    collar = smooth_line([(-0.26, -0.81), (-0.17, -0.6), (0.0, -0.55), (0.17, -0.6), (0.26, -0.81)])
    return Shape(
        (
            Part(smooth(symmetric(half)), "fabric"),
            Part(cuff, "second"),
            Part(flipped(cuff), "second"),
            Part(collar, "second", width=0.1),
        ),
        (
            Place("on the chest", 0.0, -0.1, 0.25),
            Place("near the hem", 0.24, 0.58, 0.2),
            Place("in the middle", 0.0, 0.24, 0.25),
        ),
    )


def jacket() -> Shape:
    """A zipped jacket with long sleeves, collar, cuffs and waistband."""
    sleeve = smooth(
        [
            (0.3, -0.74),
            (0.62, -0.7),
            (0.97, 0.44),
            (0.97, 0.44),
            (0.7, 0.54),
            (0.7, 0.54),
            (0.4, -0.1),
        ]
    )
    cuff = smooth(
        [(0.95, 0.38)] * 2 + [(1.0, 0.58)] * 2 + [(0.72, 0.68)] * 2 + [(0.66, 0.48)] * 2, 1
    )
    body = [
        (0.0, -0.7),
        (0.24, -0.78),
        (0.46, -0.7),
        (0.52, -0.3),
        (0.52, 0.7),
        (0.52, 0.7),
        (0.0, 0.7),
    ]
    collar = smooth([(0.0, -0.44)] * 2 + [(0.34, -0.74), (0.24, -0.92), (0.0, -0.84), (0.0, -0.84)])
    pocket = smooth_line([(0.2, 0.42), (0.38, 0.24)])
    return Shape(
        (
            Part(sleeve, "fabric"),
            Part(flipped(sleeve), "fabric"),
            Part(cuff, "second"),
            Part(flipped(cuff), "second"),
            Part(smooth(symmetric(body)), "fabric"),
            Part(box(-0.54, 0.66, 0.54, 0.86, 0.05), "second"),
            Part(collar, "second"),
            Part(flipped(collar), "second"),
            Part(smooth_line([(0.0, -0.44), (0.0, 0.84)]), "ink", width=0.035, outlined=False),
            Part(pocket, "ink", width=0.035, outlined=False),
            Part(flipped(pocket), "ink", width=0.035, outlined=False),
        ),
        (
            Place("on the chest", 0.27, -0.22, 0.2),
            Place("above the waistband", 0.27, 0.5, 0.18),
            Place("on the sleeve", 0.68, 0.1, 0.17),
        ),
    )


def dress() -> Shape:
    """A sleeveless dress with a belt and a wide skirt."""
    half = [
        (0.0, -0.66),
        (0.13, -0.7),
        (0.18, -0.94),
        (0.18, -0.94),
        (0.32, -0.94),
        (0.32, -0.94),
        (0.3, -0.66),
    ]
    half += [
        (0.4, -0.5),
        (0.3, -0.14),
        (0.3, -0.14),
        (0.5, 0.3),
        (0.78, 0.86),
        (0.78, 0.86),
        (0.4, 0.95),
        (0.0, 0.95),
    ]
    fold = smooth_line([(0.16, 0.1), (0.22, 0.5), (0.32, 0.88)])
    return Shape(
        (
            Part(smooth(symmetric(half)), "fabric"),
            Part(fold, "ink", width=0.022, outlined=False),
            Part(flipped(fold), "ink", width=0.022, outlined=False),
            Part(box(-0.31, -0.2, 0.31, -0.03, 0.05), "second"),
            Part(
                smooth_line(
                    [(-0.25, -0.92), (-0.18, -0.7), (0.0, -0.64), (0.18, -0.7), (0.25, -0.92)]
                ),
                "second",
                0.07,
            ),
        ),
        (
            Place("on the chest", 0.0, -0.4, 0.18),
            Place("on the skirt", 0.0, 0.34, 0.24),
            Place("near the hem", 0.36, 0.68, 0.2),
        ),
    )


def trousers() -> Shape:
    """Long trousers with a waistband and turn-ups."""
    half = [
        (0.0, -0.78),
        (0.46, -0.78),
        (0.46, -0.78),
        (0.56, -0.3),
        (0.6, 0.82),
        (0.6, 0.82),
        (0.16, 0.82),
    ]
    half += [(0.16, 0.82), (0.05, -0.2), (0.0, -0.24)]
    turn_up = box(0.13, 0.76, 0.63, 0.93, 0.04)
    pocket = smooth_line([(0.3, -0.62), (0.36, -0.42), (0.52, -0.4)])
    return Shape(
        (
            Part(smooth(symmetric(half)), "fabric"),
            Part(turn_up, "second"),
            Part(flipped(turn_up), "second"),
            Part(box(-0.48, -0.9, 0.48, -0.7, 0.05), "second"),
            Part(smooth_line([(0.0, -0.68), (0.0, -0.26)]), "ink", width=0.03, outlined=False),
            Part(pocket, "ink", width=0.03, outlined=False),
            Part(flipped(pocket), "ink", width=0.03, outlined=False),
        ),
        (
            Place("on the thigh", 0.31, -0.08, 0.21),
            Place("on the knee", 0.36, 0.28, 0.2),
            Place("near the ankle", 0.38, 0.56, 0.18),
        ),
    )


def shoe() -> Shape:
    """A trainer seen from the side, toe to the right."""
    upper = [
        (-0.86, 0.3),
        (-0.86, 0.3),
        (-0.9, -0.2),
        (-0.8, -0.56),
        (-0.66, -0.5),
        (-0.4, -0.38),
        (-0.14, -0.6),
    ]
    upper += [(-0.06, -0.56), (0.2, -0.18), (0.66, 0.0), (0.94, 0.12), (0.96, 0.34), (0.96, 0.34)]
    sole = [
        (-0.92, 0.26),
        (-0.92, 0.26),
        (0.96, 0.26),
        (1.02, 0.3),
        (0.98, 0.52),
        (0.84, 0.56),
        (-0.84, 0.56),
    ]
    sole += [(-0.96, 0.5)]
    laces = [
        smooth_line([(x - 0.13, y + 0.14), (x, y)])
        for x, y in ((0.0, -0.44), (0.1, -0.3), (0.21, -0.17))
    ]
    return Shape(
        (
            Part(
                smooth([(-0.3, -0.34), (-0.24, -0.74), (-0.1, -0.78), (0.02, -0.5), (0.0, -0.2)]),
                "deep",
            ),
            Part(smooth(upper), "fabric"),
            Part(
                smooth(
                    [(0.56, 0.3), (0.56, 0.3), (0.58, 0.0), (0.94, 0.08), (0.98, 0.3), (0.98, 0.3)]
                ),
                "second",
            ),
            Part(
                smooth(
                    [(-0.87, 0.28)] * 2
                    + [(-0.9, -0.16), (-0.6, -0.1), (-0.56, 0.28), (-0.56, 0.28)]
                ),
                "second",
            ),
            *(Part(lace, "pale", width=0.07) for lace in laces),
            Part(smooth(sole), "pale"),
            Part(smooth_line([(-0.92, 0.42), (0.98, 0.42)]), "second", width=0.05, outlined=False),
        ),
        (
            Place("on the side", -0.28, 0.0, 0.2),
            Place("behind the toe", 0.24, 0.09, 0.16),
        ),
    )


def hat() -> Shape:
    """A brimmed hat with a ribbon."""
    crown = [
        (0.0, -0.56),
        (0.16, -0.68),
        (0.46, -0.62),
        (0.56, 0.2),
        (0.6, 0.34),
        (0.6, 0.34),
        (0.0, 0.4),
    ]
    ribbon = (
        [(-0.56, 0.08)] * 2 + [(0.0, 0.16)] + [(0.56, 0.08)] * 2 + [(0.6, 0.32)] * 2 + [(0.0, 0.44)]
    )
    return Shape(
        (
            Part(ellipse(0.0, 0.32, 1.0, 0.3), "fabric"),
            Part(ellipse(0.0, 0.3, 0.7, 0.17), "deep", outlined=False),
            Part(smooth(symmetric(crown)), "fabric"),
            Part(smooth([*ribbon, (-0.6, 0.32), (-0.6, 0.32)]), "second"),
            Part(
                smooth_line([(-0.2, -0.5), (0.0, -0.38), (0.2, -0.5)]),
                "ink",
                width=0.03,
                outlined=False,
            ),
        ),
        (
            Place("on the crown", 0.0, -0.17, 0.21),
            Place("beside the crease", 0.28, -0.3, 0.17),
            Place("on the brim", -0.78, 0.36, 0.13),
        ),
    )


def helmet() -> Shape:
    """A bicycle helmet seen from the side, front to the right."""
    shell = [
        (-0.92, 0.22),
        (-0.92, 0.22),
        (-0.94, -0.3),
        (-0.5, -0.76),
        (0.1, -0.84),
        (0.7, -0.56),
        (0.98, 0.04),
    ]
    shell += [(0.94, 0.2), (0.94, 0.2)]
    vents = [
        [(-0.66, -0.16), (-0.5, -0.46), (-0.3, -0.62), (-0.36, -0.44), (-0.56, -0.1)],
        [(-0.1, -0.46), (0.0, -0.66), (0.3, -0.62), (0.36, -0.5), (0.1, -0.5)],
        [(0.54, -0.14), (0.5, -0.4), (0.66, -0.34), (0.84, -0.02), (0.7, -0.04)],
    ]
    return Shape(
        (
            Part(
                smooth_line([(-0.5, 0.26), (-0.1, 0.9), (0.04, 0.88), (0.3, 0.28)]),
                "ink",
                width=0.06,
                outlined=False,
            ),
            Part(smooth(shell), "fabric"),
            *(Part(smooth(vent), "hollow") for vent in vents),
            Part(
                smooth(
                    [
                        (-0.95, 0.1),
                        (0.0, 0.16),
                        (0.99, 0.06),
                        (1.02, 0.28),
                        (0.0, 0.38),
                        (-0.94, 0.34),
                    ]
                ),
                "second",
            ),
            Part(ellipse(-0.02, 0.88, 0.09, 0.07), "metal"),
        ),
        (
            Place("on the side", 0.12, -0.16, 0.22),
            Place("at the back", -0.42, -0.1, 0.17),
        ),
    )


def backpack() -> Shape:
    """A backpack with a front pocket and two side pockets."""
    side = smooth([(0.56, 0.1), (0.84, 0.16), (0.86, 0.74), (0.56, 0.8)])
    strap = smooth_line([(0.3, -0.6), (0.3, -0.1)])
    return Shape(
        (
            Part(
                smooth_line([(-0.2, -0.76), (-0.18, -0.98), (0.18, -0.98), (0.2, -0.76)]),
                "second",
                width=0.09,
            ),
            Part(side, "deep"),
            Part(flipped(side), "deep"),
            Part(box(-0.64, -0.86, 0.64, 0.9, 0.34), "fabric"),
            Part(strap, "second", width=0.1),
            Part(flipped(strap), "second", width=0.1),
            Part(
                smooth_line([(-0.52, -0.46), (-0.3, -0.64), (0.3, -0.64), (0.52, -0.46)]),
                "ink",
                0.03,
                outlined=False,
            ),
            Part(box(-0.44, 0.2, 0.44, 0.76, 0.13), "second"),
            Part(smooth_line([(-0.36, 0.34), (0.36, 0.34)]), "ink", width=0.03, outlined=False),
        ),
        (
            Place("on the front", 0.0, -0.2, 0.23),
            Place("on the pocket", 0.0, 0.54, 0.17),
        ),
    )

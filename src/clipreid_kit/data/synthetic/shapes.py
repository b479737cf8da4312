"""All kinds of objects by the name that captions use."""

from clipreid_kit.data.synthetic import clothing, things
from clipreid_kit.data.synthetic.geometry import Shape

KINDS = (
    "t-shirt",
    "jacket",
    "dress",
    "trousers",
    "shoe",
    "hat",
    "helmet",
    "backpack",
    "handbag",
    "suitcase",
    "umbrella",
    "mug",
    "teapot",
    "vase",
    "lamp",
    "armchair",
)


def all_shapes() -> dict[str, Shape]:
    """The drawing of every kind.

    Example:
        >>> shapes = all_shapes()
        >>> len(shapes), shapes["mug"].places[0].words
        (16, 'on the front')
    """
    drawings = (
        clothing.t_shirt,
        clothing.jacket,
        clothing.dress,
        clothing.trousers,
        clothing.shoe,
        clothing.hat,
        clothing.helmet,
        clothing.backpack,
        things.handbag,
        things.suitcase,
        things.umbrella,
        things.mug,
        things.teapot,
        things.vase,
        things.lamp,
        things.armchair,
    )
    return {kind: draw() for kind, draw in zip(KINDS, drawings, strict=True)}

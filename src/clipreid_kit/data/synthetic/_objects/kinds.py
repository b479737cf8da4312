"""Every kind of object, under the name that captions use."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from clipreid_kit.data.synthetic._objects import accessories, clothing, household
from clipreid_kit.data.synthetic._objects.geometry import Shape

_DRAWINGS: Mapping[str, Callable[[], Shape]] = MappingProxyType(
    {
        "t-shirt": clothing.t_shirt,
        "jacket": clothing.jacket,
        "dress": clothing.dress,
        "trousers": clothing.trousers,
        "shoe": clothing.shoe,
        "hat": accessories.hat,
        "helmet": accessories.helmet,
        "backpack": accessories.backpack,
        "handbag": accessories.handbag,
        "suitcase": accessories.suitcase,
        "umbrella": accessories.umbrella,
        "mug": household.mug,
        "teapot": household.teapot,
        "vase": household.vase,
        "lamp": household.lamp,
        "armchair": household.armchair,
    }
)
KINDS = tuple(_DRAWINGS)


def all_shapes() -> dict[str, Shape]:
    """Draw every kind of object.

    Example:
        >>> shapes = all_shapes()
        >>> len(shapes), shapes["mug"].places[0].words
        (16, 'on the front')
    """
    return {kind: draw() for kind, draw in _DRAWINGS.items()}

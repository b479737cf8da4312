"""Poses: the position of one object before one camera in one view."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from clipreid_kit.data.synthetic._objects.geometry import Shape
from clipreid_kit.data.synthetic._scene.cameras import Camera
from clipreid_kit.data.synthetic.identities import Identity

OCCLUDERS = ("bar", "leaf", "object")
_OCCLUSION_ODDS = 0.38


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """The position of an object in one view.

    Attributes:
        matrix: Projective map from object units to pixels.
        mirrored: Whether the object shows its other side.
        unit: Pixels for one object unit.
        occluder: The thing in front of the object: ``bar``, ``leaf`` or ``object``; empty for none.
        side: Side of the occluder: -1 left, 1 right; opposite to a mark that is off the middle.
    """

    matrix: Float[np.ndarray, "3 3"]
    mirrored: bool
    unit: float
    occluder: str
    side: float


def make_pose(
    identity: Identity,
    camera: Camera,
    shape: Shape,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Pose:
    """Draw rotation, shear, perspective, mirroring, position, scale and occluder of a view.

    An object with a letter or a number on it is never mirrored.

    Args:
        identity: The object.
        camera: The camera that looks at it.
        shape: The drawing of its kind.
        size: (width, height) of the frame in pixels.
        rng: Chooses the pose.
    """
    width, height = size
    short_side = min(size)
    zoom = float(rng.uniform(*camera.scale))
    unit = 0.5 * short_side * zoom
    turn = np.radians(np.clip(camera.lean + rng.normal(0.0, 10.0), -28.0, 28.0))

    has_symbol = identity.mark is not None and identity.mark.symbol != ""
    mirrored = bool(rng.random() < 0.5) and not has_symbol

    # The smaller the object, the further it may be from the middle of the frame.
    room = max(0.08, 1.0 - zoom) * 0.5
    centre_x = 0.5 * width + rng.uniform(-0.85, 0.85) * (room * width)
    centre_y = 0.5 * height + rng.uniform(-0.85, 0.85) * (room * height)

    # An object is stretched along the longer side of the frame, though not without limit.
    scale_x = min(1.35, width / short_side) * unit
    scale_y = min(1.35, height / short_side) * unit
    placement = np.array([[scale_x, 0.0, centre_x], [0.0, scale_y, centre_y], [0.0, 0.0, 1.0]])

    cosine, sine = np.cos(turn), np.sin(turn)
    rotation = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])

    shear = rng.uniform(-0.14, 0.14)
    tilt = np.array([[1.0, shear, 0.0], [0.0, camera.squash, 0.0], [0.0, 0.0, 1.0]])
    tilt[2, :2] = rng.uniform(-0.14, 0.14, size=2)

    turned_away = float(rng.uniform(0.84, 1.04))
    body = np.diag([identity.slimness * turned_away, 1.0, 1.0])

    occluder = _draw_occluder(rng)
    side = _occluder_side(identity, shape, mirrored=mirrored, rng=rng)
    return Pose(placement @ rotation @ tilt @ body, mirrored, unit, occluder, side)


def _draw_occluder(rng: np.random.Generator) -> str:
    if rng.random() >= _OCCLUSION_ODDS:
        return ""

    return OCCLUDERS[int(rng.integers(len(OCCLUDERS)))]


def _occluder_side(
    identity: Identity, shape: Shape, *, mirrored: bool, rng: np.random.Generator
) -> float:
    """Choose a side at random, or the side opposite to a mark that is off the middle."""
    side = 1.0 if rng.random() < 0.5 else -1.0

    mark = identity.mark
    if mark is None or mark.shape == "band":
        return side

    mark_x = shape.places[mark.place_index].x
    if abs(mark_x) <= 0.15:
        return side

    return float(np.sign(mark_x)) if mirrored else -float(np.sign(mark_x))

"""Views: how one object stands before one camera at one moment."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from clipreid_kit.data.synthetic.attributes import Identity
from clipreid_kit.data.synthetic.cameras import Camera
from clipreid_kit.data.synthetic.geometry import Shape

OCCLUDERS = ("bar", "leaf", "object")
_OCCLUSION_ODDS = 0.38


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """One moment.

    Attributes:
        matrix: Projective map from object units to pixels.
        mirrored: Whether the object shows its other side.
        unit: Pixels for one object unit.
        occluder: What stands in front: ``bar``, ``leaf`` or ``object``; empty for nothing.
        side: On which side it stands: -1 left, 1 right; away from the mark where that is off the middle.
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
    """Draw a pose: rotation, shear, perspective, mirror, position, scale and what stands in front.

    An object with a letter or a number on it is never mirrored.

    Args:
        identity: The object.
        camera: Who looks at it.
        shape: The drawing of its kind.
        size: (width, height) of the frame in pixels.
        rng: Chooses the pose.
    """
    width, height = size
    short = min(size)
    stretch_x, stretch_y = min(1.35, width / short), min(1.35, height / short)
    zoom = float(rng.uniform(*camera.scale))
    turn = np.radians(np.clip(camera.lean + rng.normal(0.0, 10.0), -28.0, 28.0))
    readable = identity.mark is not None and identity.mark.symbol != ""
    mirrored = bool(rng.random() < 0.5) and not readable
    unit = 0.5 * short * zoom
    room_x = max(0.08, 1.0 - zoom) * 0.5 * width
    room_y = max(0.08, 1.0 - zoom) * 0.5 * height
    centre_x = 0.5 * width + rng.uniform(-0.85, 0.85) * room_x
    centre_y = 0.5 * height + rng.uniform(-0.85, 0.85) * room_y

    place = np.array(
        [[stretch_x * unit, 0.0, centre_x], [0.0, stretch_y * unit, centre_y], [0.0, 0.0, 1.0]]
    )
    cosine, sine = np.cos(turn), np.sin(turn)
    rotation = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    tilt = np.array(
        [[1.0, rng.uniform(-0.14, 0.14), 0.0], [0.0, camera.squash, 0.0], [0.0, 0.0, 1.0]]
    )
    tilt[2, :2] = rng.uniform(-0.14, 0.14, size=2)
    turned_away = float(rng.uniform(0.84, 1.04))
    body = np.diag([identity.slimness * turned_away, 1.0, 1.0])
    occluder = (
        OCCLUDERS[int(rng.integers(len(OCCLUDERS)))] if rng.random() < _OCCLUSION_ODDS else ""
    )
    side = 1.0 if rng.random() < 0.5 else -1.0
    if identity.mark is not None and identity.mark.shape != "band":
        at = shape.places[identity.mark.place_index].x * (-1.0 if mirrored else 1.0)
        side = -float(np.sign(at)) if abs(at) > 0.15 else side
    return Pose(place @ rotation @ tilt @ body, mirrored, unit, occluder, side)

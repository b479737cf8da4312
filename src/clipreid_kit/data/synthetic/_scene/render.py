"""Render one view of an identity through one camera."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageFilter

from clipreid_kit.data.synthetic._objects.geometry import Shape
from clipreid_kit.data.synthetic._scene.backgrounds import draw_background
from clipreid_kit.data.synthetic._scene.cameras import Camera
from clipreid_kit.data.synthetic._scene.frames import Frame, draw_passing, moved
from clipreid_kit.data.synthetic._scene.object_painter import Canvas, Look, draw_object
from clipreid_kit.data.synthetic._scene.occluders import draw_occluder
from clipreid_kit.data.synthetic._scene.poses import make_pose
from clipreid_kit.data.synthetic.identities import Identity

_OVERSAMPLING = 3


def render_view(
    identity: Identity,
    camera: Camera,
    shapes: Mapping[str, Shape],
    size: tuple[int, int],
    rng: np.random.Generator,
    frame: Frame | None = None,
) -> Image.Image:
    """Draw one view of an identity at three times the size, reduce it, and apply the camera.

    Args:
        identity: The identity to draw.
        camera: The camera that sees it.
        shapes: The drawing of every kind.
        size: (width, height) of the image in pixels.
        rng: Chooses everything that is particular to this view.
        frame: How the view differs in a later frame; ``None`` for the first.

    Returns:
        An RGB image.
    """
    large = (size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING)
    shape = shapes[identity.kind]
    pose = make_pose(identity, camera, shape, large, rng)
    if frame is not None:
        pose = replace(pose, matrix=moved(pose.matrix, frame, large))

    hue = float((camera.hue + rng.normal(0.0, 0.07)) % 1.0)
    lightness = float(camera.lightness + rng.normal(0.0, 0.05))
    scene = draw_background(camera.background, hue, lightness, large, rng)

    body = Image.new("L", large)
    look = Look(
        identity.main_rgb, identity.second_rgb, identity.pattern, identity.period, identity.mark
    )
    draw_object(Canvas(scene, body), shape, look, pose.matrix, pose.unit, mirrored=pose.mirrored)

    front = Image.new("L", large)
    if pose.occluder:
        draw_occluder(Canvas(scene, front), shapes, pose, rng)
    if frame is not None:
        draw_passing(Canvas(scene, front), body, frame)

    is_empty = not pose.occluder and frame is None  # and stays so without a resize
    return _photograph(
        scene.resize(size, Image.Resampling.LANCZOS),
        body.resize(size, Image.Resampling.LANCZOS),
        Image.new("L", size) if is_empty else front.resize(size, Image.Resampling.LANCZOS),
        camera,
        rng if frame is None else frame.rng,
    )


def _photograph(
    scene: Image.Image,
    body: Image.Image,
    front: Image.Image,
    camera: Camera,
    rng: np.random.Generator,
) -> Image.Image:
    """Apply blur, light, shadow, exposure, colour cast and noise of a camera."""
    width, height = scene.size
    short_side = min(scene.size)
    if camera.blur:
        scene = scene.filter(ImageFilter.GaussianBlur(camera.blur * short_side / 64.0))

    pixels = _as_fractions(scene)
    body_mask = _as_fractions(body)
    front_mask = _as_fractions(front)
    toward_x = float(np.cos(camera.light_angle))
    toward_y = float(np.sin(camera.light_angle))

    # The shadow falls away from the light, and only on the background.
    shadow = _as_fractions(
        _shadow(body, 0.05 * short_side * toward_x, 0.05 * short_side * toward_y)
    )
    shadow = shadow * (1.0 - body_mask) * (1.0 - front_mask)

    x = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :]
    y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    light = 1.0 + camera.light * (toward_x * x + toward_y * y) * (0.7 + 0.6 * body_mask)
    illumination = (light * (1.0 - 0.42 * shadow))[:, :, None]

    flicker = float(rng.normal(0.0, 0.02))
    pixels = (pixels * illumination - 0.5) * camera.contrast + 0.5 + camera.brightness + flicker
    pixels = pixels * np.asarray(camera.cast, dtype=np.float32)
    pixels = pixels + camera.noise * rng.standard_normal(pixels.shape, dtype=np.float32)

    levels = np.rint(np.clip(pixels, 0.0, 1.0) * 255.0)
    return Image.fromarray(levels.astype(np.uint8))


def _as_fractions(image: Image.Image) -> Float32[np.ndarray, "..."]:
    return np.asarray(image, dtype=np.float32) / 255.0


def _shadow(body: Image.Image, shift_x: float, shift_y: float) -> Image.Image:
    """Blur the mask of an object and shift it; the arguments point towards the light."""
    blurred = body.filter(ImageFilter.GaussianBlur(0.045 * min(body.size)))
    return blurred.transform(
        blurred.size,
        Image.Transform.AFFINE,
        (1, 0, shift_x, 0, 1, shift_y),
        Image.Resampling.BILINEAR,
    )

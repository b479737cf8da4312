"""From an identity, a camera and a pose to pixels."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageFilter

from clipreid_kit.data.synthetic.attributes import Identity
from clipreid_kit.data.synthetic.backgrounds import draw_background
from clipreid_kit.data.synthetic.cameras import Camera
from clipreid_kit.data.synthetic.drawing import Canvas, Look, draw_object
from clipreid_kit.data.synthetic.geometry import Shape
from clipreid_kit.data.synthetic.occluders import draw_occluder
from clipreid_kit.data.synthetic.poses import make_pose

_OVERSAMPLING = 3


def render_view(
    identity: Identity,
    camera: Camera,
    shapes: Mapping[str, Shape],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Image.Image:
    """Draw one view of an identity at three times the size, bring it down, and photograph it.

    Args:
        identity: What is seen.
        camera: Who sees it.
        shapes: The drawing of every kind.
        size: (width, height) of the picture in pixels.
        rng: Everything that is particular to this view.

    Returns:
        An RGB picture.
    """
    large = (size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING)
    pose = make_pose(identity, camera, shapes[identity.kind], large, rng)
    hue, lightness = camera.hue + rng.normal(0.0, 0.07), camera.lightness + rng.normal(0.0, 0.05)
    scene = draw_background(camera.background, float(hue % 1.0), float(lightness), large, rng)
    canvas = Canvas(scene, Image.new("L", large))
    look = Look(
        identity.main_rgb, identity.second_rgb, identity.pattern, identity.period, identity.mark
    )
    draw_object(canvas, shapes[identity.kind], look, pose.matrix, pose.unit, mirrored=pose.mirrored)
    front = Image.new("L", large)
    if pose.occluder:
        draw_occluder(Canvas(scene, front), shapes, pose, rng)
    small = [layer.resize(size, Image.Resampling.LANCZOS) for layer in (scene, canvas.mask, front)]
    return _photograph(small[0], small[1], small[2], camera, rng)


def _photograph(
    scene: Image.Image,
    covered: Image.Image,
    front: Image.Image,
    camera: Camera,
    rng: np.random.Generator,
) -> Image.Image:
    width, height = scene.size
    short = min(scene.size)
    if camera.blur:
        scene = scene.filter(ImageFilter.GaussianBlur(camera.blur * short / 64.0))
    pixels = np.asarray(scene, dtype=np.float32) / 255.0
    body, ahead = (np.asarray(mask, dtype=np.float32) / 255.0 for mask in (covered, front))
    toward_x, toward_y = float(np.cos(camera.light_angle)), float(np.sin(camera.light_angle))
    # the shadow falls away from the light, on what lies behind the object only
    shift = 0.05 * short
    shadow = covered.filter(ImageFilter.GaussianBlur(0.045 * short))
    shadow = shadow.transform(
        shadow.size,
        Image.Transform.AFFINE,
        (1, 0, shift * toward_x, 0, 1, shift * toward_y),
        Image.Resampling.BILINEAR,
    )
    fallen = np.asarray(shadow, dtype=np.float32) / 255.0 * (1.0 - body) * (1.0 - ahead)
    x = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :]
    y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    light = 1.0 + camera.light * (toward_x * x + toward_y * y) * (0.7 + 0.6 * body)
    exposure = (light * (1.0 - 0.42 * fallen))[:, :, None]
    pixels = (
        (pixels * exposure - 0.5) * camera.contrast
        + 0.5
        + camera.brightness
        + float(rng.normal(0.0, 0.02))
    )
    pixels = pixels * np.asarray(camera.cast, dtype=np.float32)
    pixels = pixels + camera.noise * rng.standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray(np.rint(np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8))

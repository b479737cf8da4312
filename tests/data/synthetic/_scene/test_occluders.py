import numpy as np
import pytest
from PIL import Image

from clipreid_kit.data.synthetic._objects.kinds import all_shapes
from clipreid_kit.data.synthetic._scene.object_painter import Canvas
from clipreid_kit.data.synthetic._scene.occluders import draw_occluder
from clipreid_kit.data.synthetic._scene.poses import OCCLUDERS, Pose

SHAPES = all_shapes()
PAPER = (1, 2, 3)  # a colour that no occluder has
MATRIX = np.array([[80.0, 0.0, 100.0], [0.0, 80.0, 100.0], [0.0, 0.0, 1.0]])


def cover(occluder, side, seed):
    """Draw one occluder on an empty canvas, and return the pixels that it covers."""
    canvas = Canvas(Image.new("RGB", (200, 200), PAPER), Image.new("L", (200, 200)))
    pose = Pose(MATRIX, mirrored=False, unit=80.0, occluder=occluder, side=side)
    draw_occluder(canvas, SHAPES, pose, np.random.default_rng(seed))

    mask = np.asarray(canvas.mask) > 0
    assert (np.asarray(canvas.image)[mask] != PAPER).any(axis=1).mean() > 0.98
    return mask


@pytest.mark.parametrize("side", [-1.0, 1.0])
@pytest.mark.parametrize("occluder", OCCLUDERS)
def test_an_occluder_covers_part_of_its_side_and_never_the_middle(occluder, side):
    for seed in range(12):
        mask = cover(occluder, side, seed)
        assert 0.005 < mask.mean() < 0.25
        assert not mask[85:116, 90:111].any()

        column = np.argwhere(mask)[:, 1].mean()
        assert side * (column - 100) > 0


def test_views_differ():
    assert (cover("leaf", 1.0, 0) != cover("leaf", 1.0, 1)).any()

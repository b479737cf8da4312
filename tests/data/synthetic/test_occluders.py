import numpy as np
import pytest
from PIL import Image

from clipreid_kit.data.synthetic.drawing import Canvas
from clipreid_kit.data.synthetic.occluders import draw_occluder
from clipreid_kit.data.synthetic.poses import OCCLUDERS, Pose
from clipreid_kit.data.synthetic.shapes import all_shapes

SHAPES = all_shapes()
MATRIX = np.array([[80.0, 0.0, 100.0], [0.0, 80.0, 100.0], [0.0, 0.0, 1.0]])


def cover(occluder, side, seed):
    canvas = Canvas(Image.new("RGB", (200, 200), (1, 2, 3)), Image.new("L", (200, 200)))
    draw_occluder(
        canvas, SHAPES, Pose(MATRIX, False, 80.0, occluder, side), np.random.default_rng(seed)
    )
    mask = np.asarray(canvas.mask) > 0
    assert (np.asarray(canvas.picture)[mask] != (1, 2, 3)).any(axis=1).mean() > 0.98
    return mask


@pytest.mark.parametrize("side", [-1.0, 1.0])
@pytest.mark.parametrize("occluder", OCCLUDERS)
def test_it_covers_a_part_of_its_own_side_and_never_the_middle(occluder, side):
    for seed in range(12):
        mask = cover(occluder, side, seed)
        assert 0.005 < mask.mean() < 0.25
        assert not mask[85:116, 90:111].any()
        column = np.argwhere(mask)[:, 1].mean()
        assert side * (column - 100) > 0


def test_views_differ():
    assert (cover("leaf", 1.0, 0) != cover("leaf", 1.0, 1)).any()

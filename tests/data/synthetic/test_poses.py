from dataclasses import replace

import numpy as np
import pytest

from clipreid_kit.data.synthetic.attributes import Mark, make_identities
from clipreid_kit.data.synthetic.cameras import make_camera
from clipreid_kit.data.synthetic.geometry import box, project
from clipreid_kit.data.synthetic.poses import OCCLUDERS, make_pose
from clipreid_kit.data.synthetic.shapes import all_shapes

SHAPES = all_shapes()
MUG = replace(make_identities(1, 0, SHAPES)[0], kind="mug", mark=None)


def poses(identity, size=(192, 192), count=80):
    return [
        make_pose(
            identity, make_camera(i % 8, 0), SHAPES[identity.kind], size, np.random.default_rng(i)
        )
        for i in range(count)
    ]


def test_letters_and_numbers_are_never_mirrored():
    place = SHAPES["mug"].places[0].words
    for shape, symbol in (("letter", "K"), ("number", "4")):
        assert not any(
            pose.mirrored for pose in poses(replace(MUG, mark=Mark(shape, symbol, "red", place, 0)))
        )
    starred = poses(replace(MUG, mark=Mark("star", "", "red", place, 0)))
    assert {pose.mirrored for pose in starred} == {True, False}


def test_everything_that_stands_in_front_occurs_and_nothing_is_commonest():
    seen = [pose.occluder for pose in poses(MUG, count=200)]
    assert set(seen) == {"", *OCCLUDERS}
    assert seen.count("") > 100


def test_what_stands_in_front_keeps_off_a_mark_beside_the_middle():
    marked = replace(
        MUG, mark=Mark("star", "", "red", SHAPES["mug"].places[1].words, 1)
    )  # left of the middle
    assert SHAPES["mug"].places[1].x < -0.15
    assert all(pose.side == (-1.0 if pose.mirrored else 1.0) for pose in poses(marked))


@pytest.mark.parametrize("size", [(192, 192), (96, 300), (300, 96)])
def test_most_of_the_object_is_in_the_frame(size):
    for pose in poses(MUG, size):
        points = project(pose.matrix, box(-0.9, -0.9, 0.9, 0.9))
        width, height = size
        assert (points > [-0.35 * width, -0.35 * height]).all()
        assert (points < [1.35 * width, 1.35 * height]).all()
        centre = project(pose.matrix, np.zeros((1, 2)))[0]
        assert (np.abs(centre / size - 0.5) < 0.25).all()
        assert np.linalg.det(pose.matrix[:2, :2]) > 0  # the mirror is kept apart from the map

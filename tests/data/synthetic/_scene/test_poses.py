from dataclasses import replace

import numpy as np
import pytest

from clipreid_kit.data.synthetic._objects.geometry import box, project
from clipreid_kit.data.synthetic._objects.kinds import all_shapes
from clipreid_kit.data.synthetic._scene.cameras import make_camera
from clipreid_kit.data.synthetic._scene.poses import OCCLUDERS, make_pose
from clipreid_kit.data.synthetic.identities import Mark, make_identities

SHAPES = all_shapes()
MUG = replace(make_identities(1, 0, SHAPES)[0], kind="mug", mark=None)


def poses(identity, size=(192, 192), count=80):
    shape = SHAPES[identity.kind]
    found = []
    for seed in range(count):
        camera = make_camera(seed % 8, 0)
        found.append(make_pose(identity, camera, shape, size, np.random.default_rng(seed)))
    return found


def marked_mug(shape, symbol, place_index):
    words = SHAPES["mug"].places[place_index].words
    return replace(MUG, mark=Mark(shape, symbol, "red", words, place_index))


@pytest.mark.parametrize(("shape", "symbol"), [("letter", "K"), ("number", "4")])
def test_letters_and_numbers_are_never_mirrored(shape, symbol):
    assert not any(pose.mirrored for pose in poses(marked_mug(shape, symbol, 0)))


def test_other_objects_are_mirrored_sometimes():
    starred = poses(marked_mug("star", "", 0))

    assert {pose.mirrored for pose in starred} == {True, False}


def test_every_occluder_occurs_and_most_views_have_none():
    seen = [pose.occluder for pose in poses(MUG, count=200)]

    assert set(seen) == {"", *OCCLUDERS}
    assert seen.count("") > 100


def test_an_occluder_keeps_away_from_a_mark_that_is_off_the_middle():
    left_of_the_middle = 1
    assert SHAPES["mug"].places[left_of_the_middle].x < -0.15

    for pose in poses(marked_mug("star", "", left_of_the_middle)):
        assert pose.side == (-1.0 if pose.mirrored else 1.0)


@pytest.mark.parametrize("size", [(192, 192), (96, 300), (300, 96)])
def test_most_of_the_object_is_in_the_frame(size):
    width, height = size

    for pose in poses(MUG, size):
        points = project(pose.matrix, box(-0.9, -0.9, 0.9, 0.9))
        assert (points > [-0.35 * width, -0.35 * height]).all()
        assert (points < [1.35 * width, 1.35 * height]).all()

        centre = project(pose.matrix, np.zeros((1, 2)))[0]
        assert (np.abs(centre / size - 0.5) < 0.25).all()


def test_the_matrix_itself_never_mirrors():
    assert all(np.linalg.det(pose.matrix[:2, :2]) > 0 for pose in poses(MUG))

import numpy as np
import pytest
from PIL import Image

from clipreid_kit.data.synthetic._scene.frames import draw_passing, make_frame, moved
from clipreid_kit.data.synthetic._scene.object_painter import Canvas


def frames_of(number, count):
    """The same frame of many views."""
    return [
        make_frame(number, np.random.default_rng((0, view)), np.random.default_rng((view, number)))
        for view in range(count)
    ]


def test_a_view_moves_smoothly_and_not_far():
    for view in range(20):
        path = [
            make_frame(n, np.random.default_rng((0, view)), np.random.default_rng((1, view, n)))
            for n in range(1, 30)
        ]
        shifts = np.array([frame.shift for frame in path])
        assert np.abs(shifts).max() <= 0.24
        assert np.abs(np.diff(shifts, axis=0)).max() <= 0.12
        assert max(abs(frame.turn) for frame in path) <= np.radians(8.0)


def test_something_passes_in_a_third_of_the_frames():
    passing = [frame.passing for frame in frames_of(1, 400)]
    there = [edges for edges in passing if edges is not None]
    assert 0.28 < len(there) / len(passing) < 0.42
    assert all(0.3 <= right - left <= 0.6 for left, right in there)


def test_the_middle_of_the_image_moves_by_the_shift():
    [frame] = frames_of(3, 1)
    middle = np.array([20.0, 10.0, 1.0])  # of an image of 40 x 20 pixels
    found = moved(np.eye(3), frame, (40, 20)) @ middle
    assert found[:2] == pytest.approx(middle[:2] + 20 * np.array(frame.shift))


def test_what_passes_covers_image_and_object():
    frame = next(frame for frame in frames_of(1, 50) if frame.passing is not None)
    image, mask, body = (
        Image.new("RGB", (40, 20)),
        Image.new("L", (40, 20)),
        Image.new("L", (40, 20), 9),
    )
    draw_passing(Canvas(image, mask), body, frame)

    covered = np.asarray(mask) > 0
    assert covered.any()
    assert (np.asarray(image)[covered] == frame.colour).all()
    assert (np.asarray(body)[covered] == 0).all()
    assert (np.asarray(body)[~covered] == 9).all()

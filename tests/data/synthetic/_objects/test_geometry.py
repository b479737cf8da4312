import numpy as np
import pytest

from clipreid_kit.data.synthetic._objects.geometry import (
    Part,
    both_sides,
    box,
    ellipse,
    flipped,
    pixel_pairs,
    project,
    seam,
    sharp,
    smooth,
    smooth_line,
    symmetric,
)


def test_smoothing_keeps_a_doubled_corner_and_cuts_a_single_one():
    corners = [*sharp((0.0, 0.0)), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    outline = smooth(corners).tolist()

    assert [0.0, 0.0] in outline
    assert [1.0, 1.0] not in outline


def test_smooth_line_keeps_its_ends():
    line = smooth_line([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)])

    assert line[0].tolist() == [0, 0]
    assert line[-1].tolist() == [1, 1]
    assert [1.0, 0.0] not in line.tolist()


def test_symmetric_does_not_repeat_points_on_the_axis():
    half = [(0.0, -1.0), (1.0, 0.0), (0.0, 1.0)]

    assert symmetric(half) == [(0, -1), (1, 0), (0, 1), (-1, 0)]


def test_flipped_twice_is_the_outline():
    points = box(-0.2, -0.5, 0.7, 0.5, 0.1)

    np.testing.assert_array_equal(flipped(flipped(points)), points)
    assert flipped(points)[:, 0].min() == pytest.approx(-0.7)


def test_both_sides_keeps_paint_and_width():
    right, left = both_sides(Part(box(0.2, 0.0, 0.7, 0.5), "second", width=0.1, outlined=False))

    assert (left.paint, left.width, left.outlined) == ("second", 0.1, False)
    np.testing.assert_array_equal(left.points, flipped(right.points))


def test_a_seam_is_a_thin_dark_line_without_a_contour():
    part = seam([(0.0, 0.0), (0.0, 1.0)], width=0.02)

    assert (part.paint, part.width, part.outlined) == ("ink", 0.02, False)


@pytest.mark.parametrize("radius", [0.0, 0.2])
def test_box_fills_its_bounds(radius):
    points = box(-0.5, -0.25, 0.75, 1.0, radius)

    assert points.min(axis=0).tolist() == pytest.approx([-0.5, -0.25])
    assert points.max(axis=0).tolist() == pytest.approx([0.75, 1.0])


def test_ellipse_runs_clockwise_from_the_right():
    points = ellipse(1.0, 2.0, 0.5, 0.25, 0.0, 90.0, 2)
    np.testing.assert_allclose(points, [(1.5, 2.0), (1.0, 2.25)])


def test_project_divides_by_depth():
    matrix = np.array([[2.0, 0.0, 1.0], [0.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
    projected = project(matrix, np.array([(1.0, 1.0)]))

    np.testing.assert_allclose(projected, [(1.5, 1.0)])


def test_pixel_pairs_are_plain_numbers():
    pairs = pixel_pairs(np.array([(1.0, 2.5), (3.0, 4.0)]))

    assert pairs == [(1.0, 2.5), (3.0, 4.0)]
    assert type(pairs[0][0]) is float

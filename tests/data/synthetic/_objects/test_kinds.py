import numpy as np
import pytest

from clipreid_kit.data.synthetic._objects.kinds import KINDS, all_shapes

SHAPES = all_shapes()


def test_every_kind_has_its_drawing():
    assert tuple(SHAPES) == KINDS
    assert len(set(KINDS)) >= 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawing_shows_both_colours_inside_its_square(kind):
    shape = SHAPES[kind]
    assert {"fabric", "second"} <= {part.paint for part in shape.parts}

    points = np.concatenate([part.points for part in shape.parts])
    assert np.abs(points).max() < 1.1
    assert np.ptp(points, axis=0).min() > 1.1  # neither a sliver nor a dot


@pytest.mark.parametrize("kind", KINDS)
def test_marks_have_several_distinct_places_on_the_drawing(kind):
    places = SHAPES[kind].places
    assert len(places) >= 2
    assert len({place.words for place in places}) == len(places)

    for place in places:
        assert 0.1 < place.size < 0.35
        assert max(abs(place.x), abs(place.y)) < 0.9

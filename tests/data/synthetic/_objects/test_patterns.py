import numpy as np
import pytest

from clipreid_kit.data.synthetic._objects.patterns import PATTERNS, pattern_mask

Y, X = np.meshgrid(np.linspace(-1, 1, 201), np.linspace(-1, 1, 201), indexing="ij")


def test_plain_shows_no_second_colour():
    assert not pattern_mask("plain", X, Y, 0.3).any()


@pytest.mark.parametrize("pattern", PATTERNS[1:])
def test_both_colours_show(pattern):
    assert 0.2 < pattern_mask(pattern, X, Y, 0.3).mean() < 0.6


def test_patterns_differ_from_one_another():
    masks = [pattern_mask(pattern, X, Y, 0.3) for pattern in PATTERNS]

    for i, first in enumerate(masks):
        for second in masks[i + 1 :]:
            assert (first != second).mean() > 0.1


def test_stripes_run_as_they_are_called():
    horizontal = pattern_mask("horizontal stripes", X, Y, 0.3)
    vertical = pattern_mask("vertical stripes", X, Y, 0.3)

    assert (horizontal == horizontal[:, :1]).all()
    assert (vertical == vertical[:1]).all()


def test_a_longer_period_makes_fewer_stripes():
    def changes(period):
        column = pattern_mask("horizontal stripes", X, Y, period)[:, 0]
        return int((column[1:] != column[:-1]).sum())

    assert changes(0.6) * 1.5 < changes(0.3)

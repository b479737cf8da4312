from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipreid_kit.data.synthetic.attributes import COLOURS, contrast, make_identities
from clipreid_kit.data.synthetic.marks import LETTERS, MARK_SHAPES, NUMBERS
from clipreid_kit.data.synthetic.patterns import PATTERNS
from clipreid_kit.data.synthetic.shapes import KINDS, all_shapes

SHAPES = all_shapes()
MANY = make_identities(600, 0, SHAPES)


def named(identity):
    return (
        identity.kind,
        identity.main_colour,
        identity.second_colour,
        identity.pattern,
        identity.mark,
    )


def test_numbers_count_from_zero():
    assert [identity.number for identity in MANY] == list(range(600))


def test_everything_that_can_be_drawn_occurs():
    assert {identity.kind for identity in MANY} == set(KINDS)
    assert {identity.pattern for identity in MANY} == set(PATTERNS)
    assert {identity.main_colour for identity in MANY} == set(COLOURS)
    assert {identity.mark.shape for identity in MANY if identity.mark} == set(MARK_SHAPES)
    assert {identity.mark.symbol for identity in MANY if identity.mark} == {"", *LETTERS, *NUMBERS}
    assert any(identity.mark is None for identity in MANY)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**70), count=st.integers(1, 40), more=st.integers(0, 40))
def test_a_larger_set_begins_with_the_smaller_one(seed, count, more):
    assert make_identities(count + more, seed, SHAPES)[:count] == make_identities(
        count, seed, SHAPES
    )


def test_no_two_identities_look_the_same_by_design():
    looks = {
        (*named(one), one.shade, one.fineness if one.pattern != "plain" else None) for one in MANY
    }
    assert len(looks) == len(MANY)


def test_near_twins_share_kind_main_colour_and_pattern():
    families = Counter((one.kind, one.main_colour, one.pattern) for one in MANY)
    in_a_family = sum(size for size in families.values() if size > 1)
    assert in_a_family > 0.6 * len(MANY)
    captions_tie = Counter(named(one) for one in MANY)
    assert max(captions_tie.values()) > 1  # words alone do not identify everyone


def test_colours_beside_each_other_can_be_told_apart():
    for one in MANY:
        assert contrast(one.main_colour, one.second_colour) >= 130
        if one.mark is not None:
            assert (
                min(
                    contrast(one.mark.colour, other)
                    for other in (one.main_colour, one.second_colour)
                )
                >= 130
            )


def test_exact_colours_stay_near_their_names():
    for one in MANY:
        nearest = min(
            COLOURS,
            key=lambda name: float(np.linalg.norm(np.subtract(COLOURS[name], one.second_rgb))),
        )
        assert nearest == one.second_colour


def test_shade_changes_the_exact_colour():
    pairs = [(one, other) for one, other in pairwise(MANY) if named(one)[:2] == named(other)[:2]]
    darker = [
        (sum(one.main_rgb), sum(other.main_rgb)) for one, other in pairs if one.shade < other.shade
    ]
    assert darker
    assert all(first < second for first, second in darker)


def test_places_belong_to_the_kind():
    for one in MANY:
        if one.mark is not None and one.mark.shape != "band":
            assert SHAPES[one.kind].places[one.mark.place_index].words == one.mark.place


def test_seeds_differ():
    assert make_identities(20, 1, SHAPES) != make_identities(20, 2, SHAPES)


def test_contrast_is_a_distance():
    assert contrast("red", "red") == 0.0
    assert contrast("red", "teal") == pytest.approx(contrast("teal", "red"))
    assert contrast("black", "white") > contrast("black", "navy")


def test_black_and_white_have_no_shades():
    assert all(one.shade == 0 for one in MANY if one.main_colour in ("black", "white"))
    assert {one.shade for one in MANY if one.main_colour == "red"} == {-1, 0, 1}

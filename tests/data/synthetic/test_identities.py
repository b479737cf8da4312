from collections import Counter
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipreid_kit.data.synthetic._objects.kinds import KINDS, all_shapes
from clipreid_kit.data.synthetic._objects.marks import LETTERS, MARK_SHAPES, NUMBERS
from clipreid_kit.data.synthetic._objects.patterns import PATTERNS
from clipreid_kit.data.synthetic.identities import COLOURS, contrast, make_identities

SHAPES = all_shapes()


@cache
def many():
    return make_identities(600, 0, SHAPES)


def marked():
    return [identity for identity in many() if identity.mark is not None]


def captioned_properties(identity):
    return (
        identity.kind,
        identity.main_colour,
        identity.second_colour,
        identity.pattern,
        identity.mark,
    )


def test_numbers_count_from_zero():
    assert [identity.number for identity in many()] == list(range(600))


def test_every_kind_pattern_colour_and_mark_occurs():
    assert {identity.kind for identity in many()} == set(KINDS)
    assert {identity.pattern for identity in many()} == set(PATTERNS)
    assert {identity.main_colour for identity in many()} == set(COLOURS)

    assert {identity.mark.shape for identity in marked()} == set(MARK_SHAPES)
    assert {identity.mark.symbol for identity in marked()} == {"", *LETTERS, *NUMBERS}
    assert len(marked()) < len(many())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**70), count=st.integers(1, 40), more=st.integers(0, 40))
def test_a_larger_set_begins_with_the_smaller_one(seed, count, more):
    larger = make_identities(count + more, seed, SHAPES)

    assert larger[:count] == make_identities(count, seed, SHAPES)


def test_no_two_identities_look_the_same():
    looks = set()
    for identity in many():
        fineness = None if identity.pattern == "plain" else identity.fineness
        looks.add((*captioned_properties(identity), identity.shade, fineness))

    assert len(looks) == len(many())


def test_near_twins_share_kind_main_colour_and_pattern():
    families = Counter(
        (identity.kind, identity.main_colour, identity.pattern) for identity in many()
    )
    num_in_families = sum(size for size in families.values() if size > 1)

    assert num_in_families > 0.6 * len(many())


def test_captions_alone_do_not_distinguish_all_identities():
    counts = Counter(captioned_properties(identity) for identity in many())

    assert max(counts.values()) > 1


def test_main_and_second_colour_can_be_told_apart():
    for identity in many():
        assert contrast(identity.main_colour, identity.second_colour) >= 130


def test_marks_stand_out_from_both_colours():
    for identity in marked():
        assert contrast(identity.mark.colour, identity.main_colour) >= 130
        assert contrast(identity.mark.colour, identity.second_colour) >= 130


def test_exact_colours_stay_near_their_names():
    for identity in many():
        differences = {
            name: np.linalg.norm(np.subtract(rgb, identity.second_rgb))
            for name, rgb in COLOURS.items()
        }

        assert min(differences, key=differences.get) == identity.second_colour


def test_a_darker_shade_has_a_darker_exact_colour():
    compared = 0
    for first, second in pairwise(many()):
        if captioned_properties(first)[:2] != captioned_properties(second)[:2]:
            continue
        if first.shade < second.shade:
            compared += 1
            assert sum(first.main_rgb) < sum(second.main_rgb)

    assert compared > 0


def test_places_of_marks_belong_to_the_kind():
    for identity in marked():
        if identity.mark.shape != "band":
            places = SHAPES[identity.kind].places
            assert places[identity.mark.place_index].words == identity.mark.place


def test_seeds_differ():
    assert make_identities(20, 1, SHAPES) != make_identities(20, 2, SHAPES)


def test_contrast_is_a_distance():
    assert contrast("red", "red") == 0.0
    assert contrast("red", "teal") == pytest.approx(contrast("teal", "red"))
    assert contrast("black", "white") > contrast("black", "navy")


def test_black_and_white_have_no_shades():
    shades = {identity.shade for identity in many() if identity.main_colour in ("black", "white")}

    assert shades == {0}


def test_other_colours_have_three_shades():
    assert {identity.shade for identity in many() if identity.main_colour == "red"} == {-1, 0, 1}

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from clipreid_kit.data.synthetic._captions import describe
from clipreid_kit.data.synthetic._objects.kinds import KINDS, all_shapes
from clipreid_kit.data.synthetic._objects.marks import MARK_SHAPES
from clipreid_kit.data.synthetic._objects.patterns import PATTERNS
from clipreid_kit.data.synthetic.identities import COLOURS, Mark, make_identities


@cache
def identities():
    return make_identities(300, 0, all_shapes())


def contains(caption, word):
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", caption, re.IGNORECASE) is not None


def words_in(caption, vocabulary):
    return {word for word in vocabulary if contains(caption, word)}


def captions(identity, count=12):
    return [describe(identity, np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("number", range(0, 300, 3))
def test_every_statement_is_true(number):
    identity = identities()[number]
    mark = identity.mark
    colours = {identity.main_colour, identity.second_colour}
    marks = set()
    if mark is not None:
        colours.add(mark.colour)
        marks.add(mark.shape)

    for caption in captions(identity):
        assert words_in(caption, KINDS) == {identity.kind}
        assert words_in(caption, COLOURS) <= colours
        assert words_in(caption, PATTERNS) <= {identity.pattern}
        assert words_in(caption, MARK_SHAPES) <= marks


def test_a_mark_is_described_with_colour_symbol_and_place():
    described = 0
    for identity in identities()[::3]:
        mark = identity.mark
        if mark is None or mark.shape == "band":
            continue

        symbol = f"{mark.shape} {mark.symbol}".strip()
        expected = f"{mark.colour} {symbol} {mark.place}"
        for caption in captions(identity):
            if words_in(caption, MARK_SHAPES):
                described += 1
                assert expected in caption.replace(mark.colour.capitalize(), mark.colour)

    assert described > 100


def test_at_most_one_attribute_is_left_out():
    for identity in identities():
        for caption in captions(identity, 3):
            mentions_trim = identity.pattern == "plain" and "trim" in caption
            mentioned = [
                identity.main_colour in caption.lower(),
                identity.second_colour in caption.lower(),
                mentions_trim or bool(words_in(caption, PATTERNS)),
                identity.mark is None or bool(words_in(caption, MARK_SHAPES)),
            ]

            assert sum(mentioned) >= 3, caption


def test_wording_varies():
    identity = identities()[0]

    assert len(set(captions(identity, 200))) > 30


def test_each_attribute_is_left_out_sometimes():
    identity = next(one for one in identities() if one.mark is not None and one.pattern == "dots")
    spoken = captions(identity, 200)

    for word in (identity.main_colour, identity.second_colour, "dots", identity.mark.shape):
        num_missing = sum(not contains(caption, word) for caption in spoken)
        assert 5 < num_missing < 80


def test_sentences_are_well_formed():
    for identity in identities():
        for caption in captions(identity, 4):
            assert caption[0].isupper()
            assert caption.endswith(".")
            assert "  " not in caption
            assert "None" not in caption


def test_articles_fit_the_following_word():
    wrong_article = re.compile(r"(^A|\ba) [aeiou]|(^An|\ban) [^aeiou]")

    for identity in identities():
        for caption in captions(identity, 4):
            assert not wrong_article.search(caption), caption


def test_trousers_come_in_pairs():
    identity = next(one for one in identities() if one.kind == "trousers")

    assert all("pair of" in caption for caption in captions(identity))


def test_a_plain_unmarked_object_may_be_described_by_kind_and_colour_only():
    plain = replace(
        identities()[0],
        kind="mug",
        main_colour="red",
        second_colour="white",
        pattern="plain",
        mark=None,
    )
    spoken = captions(plain, 100)

    assert any("plain red mug" in caption and "white" not in caption for caption in spoken)
    assert any("white trim" in caption for caption in spoken)


def test_a_band_needs_no_place():
    banded = replace(identities()[0], mark=Mark("band", "", "orange", "", 0))

    assert any("an orange band across it" in caption for caption in captions(banded))

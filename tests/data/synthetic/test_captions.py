import re
from dataclasses import replace

import numpy as np
import pytest

from clipreid_kit.data.synthetic.attributes import COLOURS, Mark, make_identities
from clipreid_kit.data.synthetic.captions import describe
from clipreid_kit.data.synthetic.marks import MARK_SHAPES
from clipreid_kit.data.synthetic.patterns import PATTERNS
from clipreid_kit.data.synthetic.shapes import KINDS, all_shapes

IDENTITIES = make_identities(300, 0, all_shapes())


def words_in(caption, vocabulary):
    return {
        word
        for word in vocabulary
        if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", caption, re.IGNORECASE)
    }


def captions(identity, count=12):
    return [describe(identity, np.random.default_rng(i)) for i in range(count)]


@pytest.mark.parametrize("identity", IDENTITIES[::3], ids=lambda identity: str(identity.number))
def test_all_that_is_said_is_true(identity):
    mark = identity.mark
    colours = {identity.main_colour, identity.second_colour} | ({mark.colour} if mark else set())
    for caption in captions(identity):
        assert words_in(caption, KINDS) == {identity.kind}
        assert words_in(caption, COLOURS) <= colours
        assert words_in(caption, PATTERNS) <= {identity.pattern}
        assert words_in(caption, MARK_SHAPES) <= ({mark.shape} if mark else set())
        if mark is not None and mark.shape != "band" and words_in(caption, MARK_SHAPES):
            assert (
                f"{mark.colour} {mark.shape} {mark.symbol}".strip() + f" {mark.place}"
                in caption.replace(mark.colour.capitalize(), mark.colour)
            )


def test_at_most_one_attribute_is_left_out():
    for identity in IDENTITIES:
        for caption in captions(identity, 3):
            told = [
                identity.main_colour in caption.lower(),
                identity.second_colour in caption.lower(),
                bool(words_in(caption, PATTERNS))
                or (identity.pattern == "plain" and "trim" in caption),
                identity.mark is None or bool(words_in(caption, MARK_SHAPES)),
            ]
            assert sum(told) >= 3, caption


def test_completeness_and_wording_vary():
    identity = next(one for one in IDENTITIES if one.mark is not None and one.pattern == "dots")
    spoken = captions(identity, 200)
    assert len(set(spoken)) > 30
    for left_out in (identity.main_colour, identity.second_colour, "dots", identity.mark.shape):
        missing = sum(not words_in(caption, [left_out]) for caption in spoken)
        assert 5 < missing < 80


def test_sentences_are_well_formed():
    for identity in IDENTITIES:
        for caption in captions(identity, 4):
            assert caption[0].isupper()
            assert caption.endswith(".")
            assert "  " not in caption
            assert "None" not in caption
            assert not re.search(r"(^A|\ba) [aeiou]|(^An|\ban) [^aeiou]", caption), caption


def test_trousers_come_in_pairs():
    identity = next(one for one in IDENTITIES if one.kind == "trousers")
    assert all("pair of" in caption for caption in captions(identity))


def test_a_plain_unmarked_thing_can_be_described_by_kind_and_colour_only():
    plain = replace(
        IDENTITIES[0],
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
    banded = replace(IDENTITIES[0], mark=Mark("band", "", "orange", "", 0))
    assert any("an orange band across it" in caption for caption in captions(banded))

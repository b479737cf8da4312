import pickle

import pytest

from clipreid_kit.data import CaptionSampler, caption_variations

_SYNONYMS = {"coat": ["jacket", "parka", "anorak"], "red": ["crimson"]}


def test_synonyms_come_before_templates():
    assert caption_variations("A red coat.", synonyms=_SYNONYMS, max_variations=99) == (
        "A red coat.",
        "A red jacket.",
        "A red parka.",
        "A crimson coat.",
        "This shows a red coat.",
        "A picture of a red coat.",
        "An image depicting a red coat.",
        "This is a red coat.",
    )


def test_the_first_variations_are_kept():
    found = caption_variations("A red coat.", synonyms=_SYNONYMS, max_variations=2)

    assert found == ("A red coat.", "A red jacket.")


def test_no_variation_occurs_twice():
    assert caption_variations("A hat", synonyms=_SYNONYMS, templates=()) == ("A hat",)


def test_words_are_replaced_as_a_whole_in_their_case():
    words = {"red": ["blue"], "t-shirt": ["tee"], "c++": ["c"]}

    found = caption_variations("Red, scarred RED t-shirts", synonyms=words, templates=())
    assert found == ("Red, scarred RED t-shirts", "Blue, scarred BLUE t-shirts")

    found = caption_variations("a T-Shirt in C++", synonyms=words, templates=())
    assert found[1:] == ("a Tee in C++", "a T-Shirt in C")

    assert caption_variations("coat_red", synonyms=_SYNONYMS, templates=()) == ("coat_red",)


def test_names_keep_their_capital_and_braces_are_kept():
    assert caption_variations("Ann in {a}", templates=["See {caption}"])[1] == "See Ann in {a}"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_variations": 0}, "max_variations as a whole number >= 1"),
        ({"synonyms": {"": ["a"]}}, "words and synonyms that are not empty"),
        ({"synonyms": {"a": [" "]}}, "words and synonyms that are not empty"),
        ({"templates": ["no field"]}, "the field {caption} and no other"),
        ({"templates": ["{caption} {noun}"]}, "the field {caption} and no other"),
    ],
)
def test_wrong_options_are_explained(options, problem):
    with pytest.raises(ValueError, match=f"caption_variations: expected {problem}"):
        caption_variations("a", **options)


_CAPTIONS = ["A red coat.", "A hat."] * 50


def drawn(epoch, seed=3):
    sampler = CaptionSampler(_CAPTIONS, synonyms=_SYNONYMS, seed=seed)
    return [sampler.text(index, epoch) for index in range(len(_CAPTIONS))]


def test_drawn_texts_are_variations_of_their_captions():
    for caption, text in zip(_CAPTIONS, drawn(epoch=0), strict=True):
        assert text in caption_variations(caption, synonyms=_SYNONYMS)


def test_every_variation_is_drawn():
    assert set(drawn(epoch=0)[::2]) == set(caption_variations("A red coat.", synonyms=_SYNONYMS))


def test_drawn_texts_depend_on_seed_and_epoch():
    assert drawn(epoch=0) != drawn(epoch=1) != drawn(epoch=2)
    assert drawn(epoch=0) != drawn(epoch=0, seed=4)


def test_drawn_texts_depend_on_nothing_else():
    sampler = pickle.loads(pickle.dumps(CaptionSampler(_CAPTIONS, synonyms=_SYNONYMS, seed=3)))
    backward = [sampler.text(index, 2) for index in reversed(range(100))]

    assert backward == drawn(epoch=2)[::-1]
    assert len(sampler) == 100


def test_the_repr_names_sizes_and_options():
    sampler = CaptionSampler(["a", "b"], max_variations=3, seed=7)

    assert repr(sampler) == "CaptionSampler(num_items=2, max_variations=3, seed=7)"


def test_every_item_needs_a_caption():
    with pytest.raises(ValueError, match="CaptionSampler: item 1 has no caption"):
        CaptionSampler(["a", None])


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_variations": "5"}, "max_variations as a whole number >= 1, got '5'"),
        ({"seed": None}, "seed as a whole number >= 0, got None"),
    ],
)
def test_options_of_wrong_types_are_refused(options, problem):
    with pytest.raises(ValueError, match=f"CaptionSampler: expected {problem}"):
        CaptionSampler(["a"], **options)


def test_a_text_instead_of_a_list_of_synonyms_is_refused():
    with pytest.raises(ValueError, match=r"a list of synonyms for 'red', got 'crimson'\. One syno"):
        caption_variations("a red coat", synonyms={"red": "crimson"})
    with pytest.raises(ValueError, match="a list of synonyms for 'red'"):
        CaptionSampler(["a red coat"], synonyms={"red": "crimson"})

import pickle

import pytest

from clipreid_kit.data import CaptionSampler, caption_variations

_SYNONYMS = {"coat": ["jacket", "parka", "anorak"], "red": ["crimson"]}


def test_synonyms_come_before_templates_and_nothing_twice():
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
    assert caption_variations("A red coat.", synonyms=_SYNONYMS, max_variations=2) == (
        "A red coat.",
        "A red jacket.",
    )
    assert caption_variations("A hat", synonyms=_SYNONYMS, templates=()) == ("A hat",)


def test_words_are_replaced_whole_in_their_case():
    words = {"red": ["blue"], "t-shirt": ["tee"], "c++": ["c"]}
    assert caption_variations("Red, scarred RED t-shirts", synonyms=words, templates=()) == (
        "Red, scarred RED t-shirts",
        "Blue, scarred BLUE t-shirts",
    )
    assert caption_variations("a T-Shirt in C++", synonyms=words, templates=())[1:] == (
        "a Tee in C++",
        "a T-Shirt in C",
    )
    assert caption_variations("coat_red", synonyms=_SYNONYMS, templates=()) == ("coat_red",)


def test_names_keep_their_capital_and_braces_stay():
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


def test_texts_depend_on_seed_epoch_and_index_alone():
    captions = ["A red coat.", "A hat."] * 50
    sampler = CaptionSampler(captions, synonyms=_SYNONYMS, seed=3)
    drawn = [[sampler.text(index, epoch) for index in range(100)] for epoch in range(3)]
    again = pickle.loads(pickle.dumps(CaptionSampler(captions, synonyms=_SYNONYMS, seed=3)))
    assert [again.text(index, 2) for index in reversed(range(100))] == drawn[2][::-1]
    assert drawn[0] != drawn[1] != drawn[2]
    assert drawn[0] != [
        CaptionSampler(captions, synonyms=_SYNONYMS, seed=4).text(i, 0) for i in range(100)
    ]
    for index, text in enumerate(drawn[0]):
        assert text in caption_variations(captions[index], synonyms=_SYNONYMS)
    assert set(drawn[0][::2]) == set(caption_variations("A red coat.", synonyms=_SYNONYMS))
    assert len(sampler) == 100


def test_every_item_needs_a_caption():
    with pytest.raises(
        ValueError, match=r"CaptionSampler: expected a caption for every item, got none for item 1"
    ):
        CaptionSampler(["a", None])

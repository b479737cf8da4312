import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord, count_clip_tokens
from clipreid_kit.data.fashion import (
    ItemDescription,
    category_of,
    prompts_from_descriptions,
    read_descriptions,
    structured_prompts,
)

_BLOUSE = (
    "A fluid woven blouse with a deep V-neckline, fluttery cap sleeves "
    "and a row of contrast piping along the hem."
)


def _images(item, *variants, folder="WOMEN/Blouses_Shirts"):
    return [ImageRecord(f"img/{folder}/{item}/{variant}_1_front.jpg", item) for variant in variants]


def test_descriptions_are_read(tmp_path):
    entries = [
        {"item": "id_1", "color": "Red", "description": ["One.", "Two."]},
        {"item": "id_2", "description": "All in one", "variant": "02"},
    ]
    file = tmp_path / "list.json"
    file.write_text(json.dumps(entries))

    assert read_descriptions(file) == [
        ItemDescription("id_1", "Red", ("One.", "Two.")),
        ItemDescription("id_2", "", ("All in one",), "02"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        '{"a": 1}',
        "[1]",
        '[{"color": "red"}]',
        '[{"item": "a", "description": [1]}]',
        '[{"item": "a", "variant": 2}]',
        '[{"item": "a", "color": 3}]',
        '[{"item": 7}]',
        "[",
        "",
    ],
)
def test_other_descriptions_are_refused(tmp_path, content):
    (tmp_path / "list.json").write_text(content)

    with pytest.raises(ValueError, match=r"read_descriptions: .*list\.json"):
        read_descriptions(tmp_path / "list.json")


def test_a_wrong_entry_is_named_by_its_number(tmp_path):
    (tmp_path / "list.json").write_text('[{"item": "a"}, {"item": 7}]')

    with pytest.raises(ValueError, match=r"as entry 2 of .*list\.json, got {'item': 7}"):
        read_descriptions(tmp_path / "list.json")


def test_plain_prompts_join_all_lines():
    descriptions = [
        ItemDescription("id_2", "Blue", ("first",)),
        ItemDescription("id_1", "", (" a ", "", "b ")),
        ItemDescription("id_2", "Navy", ("later",)),
        ItemDescription("id_3", "Red", (), "02"),
    ]
    prompts = prompts_from_descriptions(descriptions)

    assert list(prompts.items()) == [
        ("id_1", "A clothing item. a b"),
        ("id_2", "A clothing item in Navy. later"),
        ("id_3/02", "A clothing item in Red."),
    ]


def test_only_items_without_a_description_get_a_general_prompt():
    coat = ItemDescription("id_3", "Red", (), "02")
    prompts = prompts_from_descriptions([coat], ["id_4", "id_3"])

    assert prompts == {"id_3/02": "A clothing item in Red.", "id_4": "A photo of id 4"}


_BLOUSE_LINES = (
    _BLOUSE,
    "Hand wash cold.",
    _BLOUSE.replace("woven", "knit"),
    "Model is 5'10 and wears a small.",
    "Lined.",
)


@pytest.mark.parametrize("max_tokens", [30, 77])
def test_structured_prompts_begin_with_colour_and_category(max_tokens):
    blouse = ItemDescription("id_1", "Heather Grey", _BLOUSE_LINES)
    prompts = structured_prompts([blouse], _images("id_1", "01"), max_tokens=max_tokens)

    (prompt,) = prompts.values()
    assert prompt.startswith("A clothing item in heather grey, women's blouses and shirts.")
    assert count_clip_tokens(prompt) <= max_tokens


def test_structured_prompts_continue_with_the_first_sentence_and_prefer_the_look():
    blouse = ItemDescription("id_1", "Heather Grey", _BLOUSE_LINES)

    (prompt,) = structured_prompts([blouse], _images("id_1", "01")).values()
    assert "shirts. A fluid woven blouse with" in prompt
    assert "Lined." in prompt
    assert "Hand wash" not in prompt or prompt.index("Lined.") < prompt.index("Hand wash")


@pytest.mark.parametrize("max_tokens", [16, 20, 40, 64])
def test_structured_prompts_fit_however_long_the_colour_is(max_tokens):
    item = ItemDescription("a", "very " * 60, (_BLOUSE,))

    (prompt,) = structured_prompts([item], max_tokens=max_tokens).values()
    assert count_clip_tokens(prompt) <= max_tokens


@given(
    colour=st.text(max_size=60),
    lines=st.lists(st.text(max_size=120), max_size=6),
    max_tokens=st.sampled_from([16, 77]),
    by_variant=st.booleans(),
)
def test_structured_prompts_of_any_text_fit(colour, lines, max_tokens, by_variant):
    item = ItemDescription("id_1", colour, tuple(lines))
    prompts = structured_prompts(
        [item], _images("id_1", "01"), by_variant=by_variant, max_tokens=max_tokens
    )

    (prompt,) = prompts.values()
    assert count_clip_tokens(prompt) <= max_tokens
    assert prompt.startswith("A clothing item")


@pytest.mark.parametrize("colour", ["0\x1e0" * 9, "dark " * 20 + "red. Or blue"])
def test_a_colour_of_several_sentences_does_not_crowd_out_the_lead(colour):
    item = ItemDescription("id_1", colour, ("A knit dress.",))

    (prompt,) = structured_prompts([item], max_tokens=16).values()
    assert prompt.startswith("A clothing item")
    assert count_clip_tokens(prompt) <= 16


def test_too_few_tokens_for_a_prompt_are_refused():
    with pytest.raises(ValueError, match="max_tokens as a whole number >= 16"):
        structured_prompts([], max_tokens=15)


_DESCRIPTIONS = [
    ItemDescription("one", "Red", ("A.",)),
    ItemDescription("two", "Red", ("B.",)),
    ItemDescription("two", "Blue", ("C.",), "02"),
]


def test_a_colour_is_not_given_to_variants_that_may_have_another():
    records = [*_images("one", "01", "01"), *_images("two", "01", "02"), *_images("none", "01")]

    assert structured_prompts(_DESCRIPTIONS, records, by_variant=True) == {
        "one/01": "A clothing item in red, women's blouses and shirts. A.",
        "two/01": "A clothing item, women's blouses and shirts. B.",
        "two/02": "A clothing item in blue, women's blouses and shirts. C.",
    }


def test_prompts_by_item_have_its_colour():
    assert structured_prompts(_DESCRIPTIONS[:2]) == {
        "one": "A clothing item in red. A.",
        "two": "A clothing item in red. B.",
    }


@pytest.mark.parametrize(
    ("folder", "spoken"),
    [
        ("MEN/Denim", "men's denim"),
        ("WOMEN/Graphic_Tees", "women's graphic tees"),
        ("WOMEN/Rompers_Jumpsuits", "women's rompers and jumpsuits"),
        ("Denim", ""),
    ],
)
def test_categories_are_read_from_the_folders(folder, spoken):
    (record,) = _images("id_1", "01", folder=folder)

    assert category_of(record) == spoken


def test_a_column_takes_precedence_over_the_folders():
    record = ImageRecord("img/MEN/Denim/i/01.jpg", "i", extra={"category": "Bags_Belts"})

    assert category_of(record) == "bags and belts"


def test_the_columns_of_in_shop_name_category_and_sex():
    record = ImageRecord("a.jpg", "i", extra={"category": "Graphic_Tees", "sex": "WOMEN"})

    assert category_of(record) == "women's graphic tees"

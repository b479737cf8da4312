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

_TELLING = (
    "A fluid woven blouse with a deep V-neckline, fluttery cap sleeves "
    "and a row of contrast piping along the hem."
)


def _images(item, *variants, folder="WOMEN/Blouses_Shirts"):
    return [ImageRecord(f"img/{folder}/{item}/{variant}_1_front.jpg", item) for variant in variants]


def test_descriptions_are_read(tmp_path):
    file = tmp_path / "list.json"
    entries = [
        {"item": "id_1", "color": "Red", "description": ["One.", "Two."]},
        {"item": "id_2", "description": "All in one", "variant": "02"},
    ]
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
        '[{"item": 7}]',
        "[",
        "",
    ],
)
def test_other_descriptions_are_refused(tmp_path, content):
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(ValueError, match=r"read_descriptions: expected .*list\.json"):
        read_descriptions(tmp_path / "list.json")


def test_plain_prompts_join_everything():
    descriptions = [
        ItemDescription("id_2", "Blue", ("first",)),
        ItemDescription("id_1", "", (" a ", "", "b ")),
        ItemDescription("id_2", "Navy", ("later",)),
        ItemDescription("id_3", "Red", (), "02"),
    ]
    assert prompts_from_descriptions(descriptions, ["id_4", "id_3", "id_1"]) == {
        "id_1": "A clothing item. a b",
        "id_2": "A clothing item in Navy. later",
        "id_3/02": "A clothing item in Red.",
        "id_4": "A photo of id 4",
    }
    assert list(prompts_from_descriptions(descriptions)) == ["id_1", "id_2", "id_3/02"]


def test_structured_prompts_say_colour_and_category_first_and_fit():
    lines = (
        _TELLING,
        "Hand wash cold.",
        _TELLING.replace("woven", "knit"),
        "Model is 5'10 and wears a small.",
        "Lined.",
    )
    blouse = ItemDescription("id_1", "Heather Grey", lines)
    (prompt,) = structured_prompts([blouse], _images("id_1", "01")).values()
    assert prompt.startswith(
        "A clothing item in heather grey, women's blouses and shirts. A fluid woven blouse with"
    )
    assert count_clip_tokens(prompt) <= 77
    assert "Hand wash" not in prompt or prompt.index("Lined.") < prompt.index("Hand wash")
    (short,) = structured_prompts([blouse], _images("id_1", "01"), max_tokens=30).values()
    assert short.startswith("A clothing item in heather grey, women's blouses and shirts.")
    assert count_clip_tokens(short) <= 30


@pytest.mark.parametrize("limit", [16, 20, 40, 64])
def test_structured_prompts_fit_whatever_the_colour(limit):
    long = ItemDescription("a", "very " * 60, (_TELLING,))
    assert all(
        count_clip_tokens(p) <= limit for p in structured_prompts([long], max_tokens=limit).values()
    )
    with pytest.raises(ValueError, match="max_tokens as a whole number >= 16"):
        structured_prompts([], max_tokens=15)


@given(
    colour=st.text(max_size=60),
    lines=st.lists(st.text(max_size=120), max_size=6),
    limit=st.sampled_from([16, 77]),
)
def test_structured_prompts_of_any_text_fit(colour, lines, limit):
    item = ItemDescription("id_1", colour, tuple(lines))
    for by_variant in (False, True):
        for prompt in structured_prompts(
            [item], _images("id_1", "01"), by_variant=by_variant, max_tokens=limit
        ).values():
            assert count_clip_tokens(prompt) <= limit
            assert prompt.startswith("A clothing item")


def test_a_colour_is_not_said_of_variants_that_may_have_another():
    descriptions = [
        ItemDescription("one", "Red", ("A.",)),
        ItemDescription("two", "Red", ("B.",)),
        ItemDescription("two", "Blue", ("C.",), "02"),
    ]
    records = [*_images("one", "01", "01"), *_images("two", "01", "02"), *_images("none", "01")]
    assert structured_prompts(descriptions, records, by_variant=True) == {
        "one/01": "A clothing item in red, women's blouses and shirts. A.",
        "two/01": "A clothing item, women's blouses and shirts. B.",
        "two/02": "A clothing item in blue, women's blouses and shirts. C.",
    }
    assert structured_prompts(descriptions[:2]) == {
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
def test_categories_are_spoken(folder, spoken):
    assert category_of(_images("id_1", "01", folder=folder)[0]) == spoken


def test_a_column_tells_the_category_before_the_path_does():
    assert (
        category_of(ImageRecord("img/MEN/Denim/i/01.jpg", "i", extra={"category": "Bags_Belts"}))
        == "bags and belts"
    )
    shop = {"category": "Graphic_Tees", "sex": "WOMEN"}  # as read_inshop has them
    assert category_of(ImageRecord("a.jpg", "i", extra=shop)) == "women's graphic tees"

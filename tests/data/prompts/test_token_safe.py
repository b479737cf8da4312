import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from clipreid_kit.data import count_clip_tokens, split_sentences, token_safe_prompt
from clipreid_kit.data.fashion import order_of_information

_CLIP = SimpleTokenizer()
_LONG = "A crisp woven dress with a scoop neckline and a smocked waist, finished with a row of tiny covered buttons."

_marks = st.sampled_from(
    [
        "<end_of_text>",
        "<START_OF_TEXT>",
        "&lt;end_of_text&gt;",
        "&amp;lt;end_of_text&amp;gt;",
        "\uff1cend_of_text\uff1e",
    ]
)
_texts = st.one_of(
    st.text(max_size=400),
    st.lists(
        st.one_of(
            st.text(max_size=30), st.sampled_from([_LONG, "Hand wash.", "a\n", ", "]), _marks
        ),
        max_size=20,
    ).map("".join),
)


@settings(max_examples=150)
@given(text=_texts, limit=st.sampled_from([2, 3, 5, 16, 77]))
def test_any_text_fits_with_its_end(text, limit):
    prompt = token_safe_prompt(text, limit)
    ids = _CLIP.encode(prompt)
    assert len(ids) + 2 <= limit
    assert _CLIP.eot_token_id not in ids
    assert _CLIP.sot_token_id not in ids
    if limit == 77:  # what the tower is given: the end mark once, after all words, and nothing cut
        row = _CLIP(prompt)[0].tolist()
        assert row[: len(ids) + 2] == [_CLIP.sot_token_id, *ids, _CLIP.eot_token_id]


@given(words=st.lists(st.text("abcdefghij,.;-!", min_size=1, max_size=9), max_size=120))
def test_no_word_is_cut_and_none_is_made_up(words):
    text = " ".join(words)
    left = iter(text.split())
    for word in token_safe_prompt(text, 20).split():
        # in the order of the text, whole; of the last word, its punctuation may go
        assert any(other == word or other.rstrip(",;:-") == word for other in left)


@given(text=st.text("ab .", max_size=60))
def test_a_text_that_fits_stays_but_for_space(text):
    assert token_safe_prompt(text) == " ".join(text.split())


@given(text=_texts)
def test_what_is_safe_stays_as_it_is(text):
    once = token_safe_prompt(text, 20)
    assert token_safe_prompt(once, 20) == once


def test_whole_sentences_that_fit_are_kept():
    text = f"A red coat. {_LONG} Belted. {_LONG} Lined!"
    assert token_safe_prompt(text, 14) == "A red coat. Belted. Lined!"
    assert token_safe_prompt(text, 77) == text
    assert count_clip_tokens(token_safe_prompt(" ".join([_LONG] * 9))) <= 77


def test_the_first_sentence_is_cut_where_nothing_else_is_left():
    assert (
        token_safe_prompt(_LONG, 20)
        == "A crisp woven dress with a scoop neckline and a smocked waist"
    )
    assert token_safe_prompt(_LONG, 9) == "A crisp woven dress with a scoop"
    assert token_safe_prompt("pneumonoultramicroscopicsilicovolcanoconiosis", 6) == ""
    assert token_safe_prompt("", 77) == ""
    assert token_safe_prompt("anything", 2) == ""


def test_scripts_without_spaces_are_cut_between_characters():
    chinese = "一件红色的羊毛大衣" * 30
    short = token_safe_prompt(chinese)
    assert chinese.startswith(short)
    assert 60 < count_clip_tokens(short) <= 77


def test_marks_do_not_end_the_text():
    assert token_safe_prompt("A red <end_of_text> coat") == "A red coat"
    assert token_safe_prompt("A &lt;START_of_text&gt; coat") == "A coat"


def test_another_tokenizer_may_count():
    prompt = token_safe_prompt(
        "one two. three four. five.", 5, count_tokens=lambda text: len(text.split()) + 2
    )
    assert prompt == "one two. five."


def test_order_decides_what_is_kept_and_where():
    text = "Hand wash cold. Made in Italy. A silk blouse. 100% silk. With a bow."
    assert token_safe_prompt(text, 12, order=order_of_information) == "A silk blouse. With a bow."
    assert token_safe_prompt(text, order=lambda sentences: [4, 2]) == "With a bow. A silk blouse."


def test_sentences_end_at_marks_and_lines():
    assert split_sentences("One. Two!  Three?\nFour 3.5 cm\n\n") == [
        "One.",
        "Two!",
        "Three?",
        "Four 3.5 cm",
    ]
    assert split_sentences("一件大衣。红色。") == ["一件大衣。", "红色。"]
    assert split_sentences(" \n ") == []


def test_there_is_room_for_start_and_end():
    with pytest.raises(
        ValueError, match=r"token_safe_prompt: expected max_tokens as a whole number >= 2, got 1"
    ):
        token_safe_prompt("a", 1)

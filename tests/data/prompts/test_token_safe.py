import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from clipreid_kit.data import count_clip_tokens, split_sentences, token_safe_prompt
from clipreid_kit.data.fashion import order_of_information

_CLIP = SimpleTokenizer()
_LONG = (
    "A crisp woven dress with a scoop neckline and a smocked waist, "
    "finished with a row of tiny covered buttons."
)

_marks = st.sampled_from(
    [
        "<end_of_text>",
        "<START_OF_TEXT>",
        "&lt;end_of_text&gt;",
        "&amp;lt;end_of_text&amp;gt;",
        "\uff1cend_of_text\uff1e",
    ]
)
_pieces = st.one_of(
    st.text(max_size=30), st.sampled_from([_LONG, "Hand wash.", "a\n", ", "]), _marks
)
_texts = st.one_of(st.text(max_size=400), st.lists(_pieces, max_size=20).map("".join))


@settings(max_examples=150)
@given(text=_texts, max_tokens=st.sampled_from([2, 3, 5, 16, 77]))
def test_any_text_fits_and_has_no_marks(text, max_tokens):
    tokens = _CLIP.encode(token_safe_prompt(text, max_tokens))

    assert len(tokens) + 2 <= max_tokens
    assert _CLIP.eot_token_id not in tokens
    assert _CLIP.sot_token_id not in tokens


@settings(max_examples=50)
@given(text=_texts)
def test_the_tower_reads_the_whole_text_and_one_end_mark(text):
    prompt = token_safe_prompt(text)
    tokens = _CLIP.encode(prompt)

    row = _CLIP(prompt)[0].tolist()
    assert row[: len(tokens) + 2] == [_CLIP.sot_token_id, *tokens, _CLIP.eot_token_id]


@given(words=st.lists(st.text("abcdefghij,.;-!", min_size=1, max_size=9), max_size=120))
def test_no_word_is_truncated_or_invented(words):
    remaining = iter(" ".join(words).split())

    # The words come in the order of the text; the last one may lose its punctuation.
    for word in token_safe_prompt(" ".join(words), 20).split():
        assert any(word in (other, other.rstrip(",;:-")) for other in remaining)


@given(text=st.text("ab .", max_size=60))
def test_a_text_that_fits_only_loses_extra_space(text):
    assert token_safe_prompt(text) == " ".join(text.split())


@given(text=_texts)
def test_a_safe_text_is_unchanged(text):
    once = token_safe_prompt(text, 20)

    assert token_safe_prompt(once, 20) == once


def test_whole_sentences_that_fit_are_kept():
    text = f"A red coat. {_LONG} Belted. {_LONG} Lined!"

    assert token_safe_prompt(text, 14) == "A red coat. Belted. Lined!"
    assert token_safe_prompt(text, 77) == text
    assert count_clip_tokens(token_safe_prompt(" ".join([_LONG] * 9))) <= 77


def test_the_first_sentence_is_truncated_after_a_clause():
    clause = "A crisp woven dress with a scoop neckline and a smocked waist"

    assert token_safe_prompt(_LONG, 20) == clause


def test_the_first_sentence_is_truncated_after_a_word_if_no_clause_fits():
    assert token_safe_prompt(_LONG, 9) == "A crisp woven dress with a scoop"


def test_nothing_is_left_if_no_word_fits():
    assert token_safe_prompt("pneumonoultramicroscopicsilicovolcanoconiosis", 6) == ""
    assert token_safe_prompt("", 77) == ""
    assert token_safe_prompt("anything", 2) == ""


def test_scripts_without_spaces_are_truncated_between_characters():
    chinese = "一件红色的羊毛大衣" * 30
    prompt = token_safe_prompt(chinese)

    assert chinese.startswith(prompt)
    assert 60 < count_clip_tokens(prompt) <= 77


def test_marks_do_not_end_the_text():
    assert token_safe_prompt("A red <end_of_text> coat") == "A red coat"
    assert token_safe_prompt("A &lt;START_of_text&gt; coat") == "A coat"


def test_another_tokenizer_may_count():
    text = "one two. three four. five."
    prompt = token_safe_prompt(text, 5, count_tokens=lambda words: len(words.split()) + 2)

    assert prompt == "one two. five."


def test_the_order_decides_which_sentences_are_kept_and_where():
    text = "Hand wash cold. Made in Italy. A silk blouse. 100% silk. With a bow."

    assert token_safe_prompt(text, 12, order=order_of_information) == "A silk blouse. With a bow."
    assert token_safe_prompt(text, order=lambda sentences: [4, 2]) == "With a bow. A silk blouse."


@pytest.mark.parametrize(
    "aside",
    [
        "Machine wash warm.",
        "Dry clean.",
        "Imported",
        "Made in Italy.",
        "Model is 5'10.",
        "32 inch inseam.",
        "Chest is 40 inches.",
        "Approximate length, measured from the shoulder.",
        "100 % cotton.",
    ],
)
def test_statements_beside_the_look_come_last(aside):
    assert order_of_information([aside, "A knit dress."]) == [1, 0]


def test_sentences_end_at_marks_and_lines():
    sentences = split_sentences("One. Two!  Three?\nFour 3.5 cm\n\n")

    assert sentences == ["One.", "Two!", "Three?", "Four 3.5 cm"]
    assert split_sentences("一件大衣。红色。") == ["一件大衣。", "红色。"]
    assert split_sentences(" \n ") == []


@pytest.mark.unhooked
@pytest.mark.parametrize("max_tokens", [1, "77", None])
def test_the_number_of_tokens_leaves_room_for_start_and_end(max_tokens):
    text = "token_safe_prompt: expected max_tokens as a whole number >= 2"

    with pytest.raises(ValueError, match=text):
        token_safe_prompt("a", max_tokens)


def test_a_long_run_of_spaces_takes_no_longer_than_other_texts():
    """A search that began anew at each space would not end."""
    assert token_safe_prompt("a coat" + " " * 300_000 + "- a hat", 6) == "a coat"

from clipreid_kit.data import count_clip_tokens, token_statistics


def test_lengths_include_start_and_end():
    found = token_statistics(["a", "a b c", "a b", "x " * 80])

    assert found.num_texts == 4
    assert found.shortest == 3
    assert found.median == 4.5
    assert found.mean == (3 + 5 + 4 + 82) / 4
    assert found.longest == 82
    assert found.num_too_long == 1


def test_a_text_of_exactly_the_maximum_is_not_too_long():
    assert count_clip_tokens("x " * 75) == 77
    assert token_statistics(["x " * 75]).num_too_long == 0


def test_no_texts_have_zeros():
    found = token_statistics([])

    assert (found.num_texts, found.shortest, found.longest, found.num_too_long) == (0, 0, 0, 0)


def test_another_tokenizer_may_count():
    assert token_statistics(["abc"], 2, count_tokens=len).num_too_long == 1

from clipreid_kit.data import count_clip_tokens, token_statistics


def test_lengths_with_start_and_end():
    found = token_statistics(["a", "a b c", "a b", "x " * 80])
    assert (found.num_texts, found.shortest, found.median, found.longest, found.num_too_long) == (
        4,
        3,
        4.5,
        82,
        1,
    )
    assert found.mean == (3 + 5 + 4 + 82) / 4
    assert token_statistics(["x " * 75]).num_too_long == 0
    assert count_clip_tokens("x " * 75) == 77


def test_no_texts_and_another_tokenizer():
    assert token_statistics([]).longest == 0
    assert token_statistics([]).num_texts == 0
    assert token_statistics(["abc"], 2, count_tokens=len).num_too_long == 1

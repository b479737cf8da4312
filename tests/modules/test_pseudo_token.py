import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.modules import insert_pseudo_token


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 4), st.booleans(), st.booleans())
def test_replaces_the_span_and_nothing_else(num_rows, num_tokens, start, shared, as_tensor):
    words = torch.arange(7 * 2.0).reshape(1, 7, 2)
    if not shared:
        words = words + 100 * torch.arange(num_rows)[:, None, None]
    learned = -torch.rand(num_rows, num_tokens, 2) - 1
    starts = torch.full((num_rows,), start) if as_tensor else start

    sentences = insert_pseudo_token(words, learned, starts)

    expected = words.expand(num_rows, -1, -1).clone()
    for row in range(num_rows):
        for number in range(num_tokens):
            expected[row, start + number] = learned[row, number]
    assert torch.equal(sentences, expected)


def test_a_start_for_each_row():
    starts = torch.tensor([3, 0, 1])
    sentences = insert_pseudo_token(torch.zeros(1, 4, 1), torch.ones(3, 1), starts)
    assert sentences[:, :, 0].tolist() == [[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]


@pytest.mark.parametrize("start", [1, torch.tensor([1, 0])])
def test_gradient_to_both(start):
    words = torch.randn(2, 4, 3, requires_grad=True)
    learned = torch.randn(2, 2, 3, requires_grad=True)
    insert_pseudo_token(words, learned, start).sum().backward()

    assert torch.equal(learned.grad, torch.ones_like(learned))
    assert words.grad.sum() == 2 * 2 * 3
    assert torch.equal(words.grad[0, :, 0], torch.tensor([1.0, 0, 0, 1]))


def test_dtype_is_that_of_the_sentence():
    tokens = torch.ones(2, 2, dtype=torch.bfloat16)
    assert insert_pseudo_token(torch.zeros(1, 3, 2), tokens, 1).dtype == torch.float32


def test_no_rows():
    assert insert_pseudo_token(torch.zeros(1, 3, 2), torch.ones(0, 2), 1).shape == (0, 3, 2)


WORDS = torch.zeros(1, 4, 3)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("words", "tokens", "start", "message"),
    [
        (WORDS, torch.zeros(2, 2, 3), 3, r"start in \[0, 2\] for 2 of 4 words, got 3 to 3"),
        (
            WORDS,
            torch.zeros(2, 3),
            torch.tensor([2, -1]),
            r"start in \[0, 3\] for 1 of 4 words, got -1 to 2",
        ),
        (
            WORDS,
            torch.zeros(2, 5),
            0,
            r"pseudo_tokens \(N, 3\) or \(N, M, 3\).*not that of image embeddings",
        ),
        (
            torch.zeros(2, 4, 3),
            torch.zeros(3, 3),
            0,
            "one sentence, or one for each of 3 rows, got 2",
        ),
        (WORDS, torch.zeros(2, 3), torch.tensor([1]), "start as a whole number, or 2 of them"),
        (
            torch.zeros(4, 3),
            torch.zeros(2, 3),
            0,
            r"word_embeddings as floating-point \(1 or N, L, W\)",
        ),
    ],
)
def test_wrong_arguments(words, tokens, start, message):
    with pytest.raises(ValueError, match="insert_pseudo_token: expected " + message):
        insert_pseudo_token(words, tokens, start)


@pytest.mark.unhooked
@pytest.mark.parametrize("start", [1, torch.tensor([1, 0])])
def test_compiles(start):
    words = torch.randn(1, 4, 3)
    learned = torch.randn(2, 3)
    compiled = torch.compile(insert_pseudo_token, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(words, learned, start), insert_pseudo_token(words, learned, start))

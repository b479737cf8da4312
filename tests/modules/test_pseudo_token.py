import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.modules import insert_pseudo_token


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 4), st.booleans(), st.booleans())
def test_replaces_the_span_and_nothing_else(rows, count, start, shared, as_tensor):
    words = torch.arange(7 * 2.0).reshape(1, 7, 2)
    words = words if shared else words.repeat(rows, 1, 1) + 100 * torch.arange(rows)[:, None, None]
    learned = -torch.rand(rows, count, 2) - 1
    out = insert_pseudo_token(words, learned, torch.full((rows,), start) if as_tensor else start)
    assert out.shape == (rows, 7, 2)
    for i in range(rows):
        for j in range(7):
            expected = (
                learned[i, j - start]
                if start <= j < start + count
                else words[0 if shared else i, j]
            )
            assert torch.equal(out[i, j], expected)


def test_a_place_for_each_row():
    out = insert_pseudo_token(torch.zeros(1, 4, 1), torch.ones(3, 1), torch.tensor([3, 0, 1]))
    assert out[:, :, 0].tolist() == [[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]


@pytest.mark.parametrize("start", [1, torch.tensor([1, 0])])
def test_gradient_to_both(start):
    words, learned = (
        torch.randn(2, 4, 3, requires_grad=True),
        torch.randn(2, 2, 3, requires_grad=True),
    )
    insert_pseudo_token(words, learned, start).sum().backward()
    assert torch.equal(learned.grad, torch.ones_like(learned))
    assert words.grad.sum() == 2 * 2 * 3
    assert torch.equal(words.grad[0, :, 0], torch.tensor([1.0, 0, 0, 1]))


def test_takes_the_dtype_of_the_sentence_and_no_rows():
    assert (
        insert_pseudo_token(torch.zeros(1, 3, 2), torch.ones(2, 2, dtype=torch.bfloat16), 1).dtype
        == torch.float32
    )
    assert insert_pseudo_token(torch.zeros(1, 3, 2), torch.ones(0, 2), 1).shape == (0, 3, 2)


@pytest.mark.unhooked
def test_errors():
    words = torch.zeros(1, 4, 3)
    with pytest.raises(ValueError, match=r"start in \[0, 2\] for 2 of 4 words, got 3 to 3"):
        insert_pseudo_token(words, torch.zeros(2, 2, 3), 3)
    with pytest.raises(ValueError, match=r"start in \[0, 3\] for 1 of 4 words, got -1 to 2"):
        insert_pseudo_token(words, torch.zeros(2, 3), torch.tensor([2, -1]))
    with pytest.raises(
        ValueError, match=r"pseudo_tokens \(N, 3\) or \(N, M, 3\).*not that of image embeddings"
    ):
        insert_pseudo_token(words, torch.zeros(2, 5), 0)
    with pytest.raises(ValueError, match="one sentence, or one for each of 3 rows, got 2"):
        insert_pseudo_token(torch.zeros(2, 4, 3), torch.zeros(3, 3), 0)
    with pytest.raises(ValueError, match="start as a whole number, or 2 of them"):
        insert_pseudo_token(words, torch.zeros(2, 3), torch.tensor([1]))
    with pytest.raises(ValueError, match=r"word_embeddings as floating-point \(1 or N, L, W\)"):
        insert_pseudo_token(torch.zeros(4, 3), torch.zeros(2, 3), 0)


@pytest.mark.unhooked
@pytest.mark.parametrize("start", [1, torch.tensor([1, 0])])
def test_compiles(start):
    words, learned = torch.randn(1, 4, 3), torch.randn(2, 3)
    compiled = torch.compile(insert_pseudo_token, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(words, learned, start), insert_pseudo_token(words, learned, start))

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import tokens as oracle

from clipreid_kit.modules import TokenSelection


def layers(module):
    parts = [
        (layer.weight.tolist(), layer.bias.tolist()) for layer in (module.mlp[0], module.mlp[2])
    ]
    return (module.linear.weight.tolist(), module.linear.bias.tolist()), parts


@given(
    st.integers(1, 9), st.integers(0, 1000), st.sampled_from([0.1, 0.3, 0.5, 1.0]), st.booleans()
)
def test_equals_the_paper(num_tokens, seed, ratio, with_padding):
    torch.manual_seed(seed)
    module = TokenSelection(5, 4, ratio=ratio).double()
    tokens = torch.randn(3, num_tokens, 5).double()
    importance = torch.rand(3, num_tokens).double()
    valid = torch.rand(3, num_tokens) < 0.7 if with_padding else None

    got = module(tokens, importance, valid)
    valid = torch.ones(3, num_tokens).bool() if valid is None else valid
    for row in range(3):
        sides = (tokens[row].tolist(), importance[row].tolist(), valid[row].tolist())
        want = oracle.token_selection(*sides, ratio, *layers(module))
        torch.testing.assert_close(got[row], torch.tensor(want).double())


def test_only_selected_tokens_count():
    module = TokenSelection(5, 4, ratio=0.5)
    tokens = torch.randn(1, 4, 5, requires_grad=True)
    importance = torch.tensor([[0.9, 0.1, 0.8, 0.2]], requires_grad=True)
    module(tokens, importance).sum().backward()

    assert importance.grad is None
    assert not tokens.grad[0, [1, 3]].any()
    assert tokens.grad[0, [0, 2]].abs().sum() > 0


def test_neither_order_nor_length_of_tokens_matters():
    module = TokenSelection(5, 4)
    tokens, importance = torch.randn(2, 7, 5), torch.rand(2, 7)
    order = torch.randperm(7)
    want = module(tokens, importance)
    torch.testing.assert_close(module(3 * tokens[:, order], importance[:, order]), want)


def test_padding_changes_nothing():
    module = TokenSelection(5, 4)
    tokens, importance = torch.randn(2, 7, 5), torch.rand(2, 7)
    padded = torch.cat([tokens, torch.full((2, 3, 5), 9.0)], dim=1)
    with_padding = torch.cat([importance, torch.full((2, 3), 9.0)], dim=1)
    valid = torch.arange(10)[None, :].expand(2, -1) < 7

    torch.testing.assert_close(module(padded, with_padding, valid), module(tokens, importance))


def test_rows_without_tokens_and_half_precision():
    module = TokenSelection(5, 4)
    tokens = torch.randn(2, 3, 5).half().requires_grad_()
    valid = torch.tensor([[True, False, True], [False, False, False]])
    output = module(tokens, torch.rand(2, 3), valid)
    output.sum().backward()

    assert output.dtype == torch.float32
    assert not output[1].any()
    assert tokens.grad.isfinite().all()
    assert module(tokens[:0], torch.rand(0, 3)).shape == (0, 4)


def test_copies_are_equal():
    module = TokenSelection(5, 4, ratio=0.5, hidden_dim=3)
    tokens, importance = torch.randn(2, 7, 5), torch.rand(2, 7)
    for clone in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(clone(tokens, importance), module(tokens, importance))
    assert "ratio=0.5" in repr(module)


@pytest.mark.unhooked
def test_errors():
    module = TokenSelection(5, 4)
    with pytest.raises(ValueError, match=r"TokenSelection: expected ratio in \(0, 1\], a share"):
        TokenSelection(5, 4, ratio=0)
    with pytest.raises(ValueError, match="expected dim as a whole number >= 1, got 0"):
        TokenSelection(5, 0)
    with pytest.raises(ValueError, match=r"expected tokens \(N, T, 5\) with at least one token"):
        module(torch.randn(2, 3, 6), torch.rand(2, 3))
    with pytest.raises(ValueError, match=r"expected importance \(2, 3\)"):
        module(torch.randn(2, 3, 5), torch.rand(2, 4))
    with pytest.raises(ValueError, match=r"expected valid as booleans \(2, 3\)"):
        module(torch.randn(2, 3, 5), torch.rand(2, 3), torch.ones(2, 3))

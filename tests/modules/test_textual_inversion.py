import copy
import pickle

import pytest
import torch
from oracles import prompts as oracle
from torch.testing import assert_close

from clipreid_kit.modules import TextualInversionMLP


def test_paper_form_equals_the_formula():
    inversion = TextualInversionMLP(6, 5, hidden_dim=7)
    torch.nn.init.normal_(inversion.norm.weight)
    torch.nn.init.normal_(inversion.norm.bias)
    rows = torch.randn(9, 6)
    assert_close(
        inversion(rows), oracle.inversion(rows, dict(inversion.state_dict())), atol=1e-5, rtol=1e-5
    )


def test_basic_form_equals_the_formula():
    inversion = TextualInversionMLP(6, 5, form="basic", hidden_dim=7)
    rows, state = torch.randn(3, 6), inversion.state_dict()
    expected = oracle.linear(torch.relu(oracle.linear(rows, state, "layers.0")), state, "layers.2")
    assert_close(inversion(rows), expected)
    assert inversion(rows[:1]).shape == (1, 5)  # no BatchNorm: one row will do


def test_sizes_of_the_paper():
    inversion = TextualInversionMLP(1024, 512)
    linear = [layer for layer in inversion.layers if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [
        (1024, 512),
        (512, 512),
        (512, 512),
    ]
    assert inversion.norm.num_features == 512


def test_first_tokens_have_the_asked_for_size():
    rows = torch.randn(64, 6)
    for affine in (True, False):
        inversion = TextualInversionMLP(6, 5, affine=affine, token_std=0.02)
        assert_close(
            inversion(rows).std(dim=0, unbiased=False), torch.full((5,), 0.02), atol=1e-3, rtol=0
        )
        assert (inversion.norm.weight is None) is not affine


@pytest.mark.parametrize("form", ["paper", "basic"])
def test_every_parameter_learns(form):
    inversion = TextualInversionMLP(6, 5, form=form)
    inversion(torch.randn(8, 6)).pow(3).sum().backward()
    assert [name for name, p in inversion.named_parameters() if not p.grad.abs().sum() > 1e-6] == []


def test_evaluation_uses_running_statistics():
    inversion = TextualInversionMLP(6, 5)
    for _ in range(3):
        inversion(torch.randn(16, 6))
    inversion.eval()
    rows = torch.randn(4, 6)
    assert_close(inversion(rows)[:1], inversion(rows[:1]))


def test_autocast_copies_and_pickles():
    inversion = TextualInversionMLP(6, 5).eval()
    rows = torch.randn(4, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fast = inversion(rows)
    assert fast.dtype == torch.float32
    assert_close(fast, inversion(rows), atol=0.05, rtol=0.05)
    for again in (copy.deepcopy(inversion), pickle.loads(pickle.dumps(inversion))):
        assert torch.equal(again(rows), inversion(rows))
    assert inversion.bfloat16()(rows.bfloat16()).dtype == torch.bfloat16


@pytest.mark.unhooked
def test_errors():
    with pytest.raises(ValueError, match="in_dim as a whole number >= 1, got 0"):
        TextualInversionMLP(0, 5)
    with pytest.raises(ValueError, match="form to be one of paper, basic, got 'plain'"):
        TextualInversionMLP(6, 5, form="plain")
    with pytest.raises(ValueError, match='affine and token_std with form="paper" only'):
        TextualInversionMLP(6, 5, form="basic", token_std=0.1)
    with pytest.raises(ValueError, match="token_std > 0"):
        TextualInversionMLP(6, 5, token_std=0.0)
    with pytest.raises(ValueError, match="embeddings of width 6, got 7"):
        TextualInversionMLP(6, 5)(torch.zeros(2, 7))
    with pytest.raises(ValueError, match="at least two rows in training mode, got one"):
        TextualInversionMLP(6, 5)(torch.zeros(1, 6))


@pytest.mark.unhooked
def test_compiles():
    inversion, rows = TextualInversionMLP(6, 5), torch.randn(4, 6)
    compiled = torch.compile(inversion, fullgraph=True, backend="aot_eager")
    assert_close(compiled(rows), inversion(rows))

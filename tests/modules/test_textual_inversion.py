import copy
import pickle

import pytest
import torch
from oracles import prompts as oracle
from torch.testing import assert_close

from clipreid_kit.modules import TextualInversionMLP


def test_paper_variant_equals_the_formula():
    inversion = TextualInversionMLP(6, 5, hidden_dim=7)
    torch.nn.init.normal_(inversion.norm.weight)
    torch.nn.init.normal_(inversion.norm.bias)
    rows = torch.randn(9, 6)

    expected = oracle.inversion(rows, dict(inversion.state_dict()))

    assert_close(inversion(rows), expected, atol=1e-5, rtol=1e-5)


def test_basic_variant_equals_the_formula():
    inversion = TextualInversionMLP(6, 5, variant="basic", hidden_dim=7)
    rows = torch.randn(3, 6)
    state = inversion.state_dict()

    hidden = torch.relu(oracle.linear(rows, state, "layers.0"))
    assert_close(inversion(rows), oracle.linear(hidden, state, "layers.2"))


def test_basic_variant_takes_one_row():
    inversion = TextualInversionMLP(6, 5, variant="basic")
    assert inversion(torch.randn(1, 6)).shape == (1, 5)


def test_sizes_of_the_paper():
    inversion = TextualInversionMLP(1024, 512)
    linear = [layer for layer in inversion.layers if isinstance(layer, torch.nn.Linear)]
    sizes = [(layer.in_features, layer.out_features) for layer in linear]

    assert sizes == [(1024, 512), (512, 512), (512, 512)]
    assert inversion.norm.num_features == 512


@pytest.mark.parametrize("affine", [True, False])
def test_initial_tokens_have_the_given_std(affine):
    inversion = TextualInversionMLP(6, 5, affine=affine, token_std=0.02)
    std = inversion(torch.randn(64, 6)).std(dim=0, unbiased=False)

    assert_close(std, torch.full((5,), 0.02), atol=1e-3, rtol=0)
    assert (inversion.norm.weight is None) is not affine


@pytest.mark.parametrize("variant", ["paper", "basic"])
def test_every_parameter_learns(variant):
    inversion = TextualInversionMLP(6, 5, variant=variant)
    inversion(torch.randn(8, 6)).pow(3).sum().backward()
    for name, parameter in inversion.named_parameters():
        assert parameter.grad.abs().sum() > 1e-6, name


def test_evaluation_uses_running_statistics():
    inversion = TextualInversionMLP(6, 5)
    for _ in range(3):
        inversion(torch.randn(16, 6))
    inversion.eval()

    rows = torch.randn(4, 6)
    assert_close(inversion(rows)[:1], inversion(rows[:1]))


def test_autocast():
    inversion = TextualInversionMLP(6, 5).eval()
    rows = torch.randn(4, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = inversion(rows)

    assert tokens.dtype == torch.float32
    assert_close(tokens, inversion(rows), atol=0.05, rtol=0.05)


def test_bfloat16():
    inversion = TextualInversionMLP(6, 5).bfloat16()
    assert inversion(torch.randn(4, 6).bfloat16()).dtype == torch.bfloat16


def test_copies_and_pickles():
    inversion = TextualInversionMLP(6, 5).eval()
    rows = torch.randn(4, 6)
    assert torch.equal(copy.deepcopy(inversion)(rows), inversion(rows))
    assert torch.equal(pickle.loads(pickle.dumps(inversion))(rows), inversion(rows))


def test_repr_shows_the_variant():
    assert "variant='basic'" in repr(TextualInversionMLP(6, 5, variant="basic"))


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_dim": 0}, "in_dim as a whole number >= 1, got 0"),
        ({"hidden_dim": "512"}, "hidden_dim as a whole number >= 1, got '512'"),
        ({"variant": "plain"}, "variant to be one of paper, basic, got 'plain'"),
        ({"token_std": 0.0}, "token_std > 0, got 0"),
        ({"token_std": None}, "token_std as a number, got None"),
    ],
)
def test_wrong_options(changes, message):
    with pytest.raises(ValueError, match="TextualInversionMLP: expected " + message):
        TextualInversionMLP(**{"in_dim": 6, "token_dim": 5, **changes})


@pytest.mark.parametrize("options", [{"token_std": 0.1}, {"affine": False}, {"distributed": True}])
def test_options_of_the_norm_without_one(options):
    message = "affine, token_std and distributed are options of the BatchNorm; leave them out with"
    with pytest.raises(ValueError, match=message):
        TextualInversionMLP(6, 5, variant="basic", **options)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (torch.zeros(2, 7), "expected embeddings of width 6, got 7"),
        (torch.zeros(1, 6), "training mode needs at least two rows, .* drop the last batch of on"),
    ],
)
def test_wrong_embeddings(embeddings, message):
    with pytest.raises(ValueError, match="TextualInversionMLP: " + message):
        TextualInversionMLP(6, 5)(embeddings)


@pytest.mark.unhooked
def test_compiles():
    inversion = TextualInversionMLP(6, 5)
    rows = torch.randn(4, 6)
    compiled = torch.compile(inversion, fullgraph=True, backend="aot_eager")
    assert_close(compiled(rows), inversion(rows))

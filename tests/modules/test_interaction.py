import copy
import itertools
import pickle

import pytest
import torch
from oracles import prompts as oracle
from torch.testing import assert_close

from clipreid_kit.modules import MultiModalInteraction


def combinations_of_options():
    names = ("sequence", "readout", "residual", "norm", "input_norm")
    values = (("joint", "query"), ("query", "mean"), (True, False), ("pre", "post"), (True, False))
    for combination in itertools.product(*values):
        options = dict(zip(names, combination, strict=True))
        if options["sequence"] == "joint" or options["readout"] == "query":
            yield options


OPTIONS = list(combinations_of_options())
OPTIONS_AND_BLOCKS = [(options, 2) for options in OPTIONS]
OPTIONS_AND_BLOCKS += [(options, 0) for options in OPTIONS if options["readout"] == "query"]


def name_of(options):
    return "-".join(map(str, options.values())) if isinstance(options, dict) else str(options)


def with_random_parameters(module):
    """LayerNorms start at 1 and 0, which would hide a missing one."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def inputs(num_rows=2, dim=16, num_tokens=6, visual_dim=12):
    return torch.randn(num_rows, dim), torch.randn(num_rows, num_tokens, visual_dim)


@pytest.mark.parametrize(("options", "num_blocks"), OPTIONS_AND_BLOCKS, ids=name_of)
def test_equals_the_formula(options, num_blocks):
    module = MultiModalInteraction(8, num_blocks, visual_dim=6, num_heads=2, **options)
    module = with_random_parameters(module).double()
    text, patches = torch.randn(3, 8).double(), torch.randn(3, 5, 6).double()

    output = module(text, patches)

    oracle_options = {name: value for name, value in options.items() if name != "sequence"}
    oracle_options["joint"] = options["sequence"] == "joint" and num_blocks > 0
    expected, states_of_rows, attention = oracle.interaction(
        text, patches, dict(module.state_dict()), 2, num_blocks, **oracle_options
    )
    assert_close(output.embedding, expected)
    assert_close(output.attention, attention)
    assert len(output.states) == num_blocks + 1
    for index, state in enumerate(output.states):
        assert_close(state, torch.stack([states[index] for states in states_of_rows]))


def test_the_printed_formula():
    """One head, no norm, no residual, no output layer: softmax(Q K^T / sqrt d) V."""
    module = MultiModalInteraction(
        4,
        0,
        visual_dim=6,
        num_heads=1,
        sequence="query",
        residual=False,
        norm="post",
        input_norm=False,
    )
    torch.nn.init.eye_(module.attention.out.weight)
    torch.nn.init.zeros_(module.attention.out.bias)
    module.attended_norm = torch.nn.Identity()
    text, patches = torch.randn(1, 4), torch.randn(1, 3, 6)

    query = module.attention.query(text[0])
    keys = module.attention.key(patches[0])
    values = module.attention.value(patches[0])
    expected = torch.softmax(keys @ query / 2, dim=0) @ values

    assert_close(module(text, patches).embedding[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", OPTIONS[::3], ids=name_of)
def test_text_and_patches_have_an_effect(options):
    module = MultiModalInteraction(16, visual_dim=12, **options)
    text, patches = inputs(num_rows=4)
    embedding = module(text, patches).embedding

    other_text = module(text.flip(0), patches).embedding
    other_patches = module(text, patches.flip(0)).embedding

    assert not torch.allclose(embedding, other_text, atol=1e-4)
    assert not torch.allclose(embedding, other_patches, atol=1e-4)


@pytest.mark.parametrize("options", OPTIONS[::3], ids=name_of)
def test_every_parameter_learns(options):
    module = MultiModalInteraction(16, visual_dim=12, **options)
    text, patches = inputs(num_rows=4)
    text.requires_grad_()
    patches.requires_grad_()

    module(text, patches).embedding.pow(3).sum().backward()

    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 1e-7, name
    assert text.grad.abs().sum() > 0
    assert patches.grad.abs().sum() > 0


def test_rows_of_the_attention_sum_to_1():
    module = MultiModalInteraction(16, visual_dim=12)
    attention = module(*inputs(num_rows=4)).attention
    assert attention.shape == (4, 6)
    assert_close(attention.sum(dim=1), torch.ones(4))


def test_the_order_of_patches_has_no_effect():
    module = MultiModalInteraction(16, visual_dim=12)
    text, patches = inputs()
    order = torch.randperm(6)

    output = module(text, patches)
    reordered = module(text, patches[:, order])

    assert_close(reordered.embedding, output.embedding, atol=1e-5, rtol=1e-4)
    assert_close(reordered.attention, output.attention[:, order])


def test_dropout_acts_in_training_only():
    module = MultiModalInteraction(16, visual_dim=12, dropout=0.5)
    text, patches = inputs()
    assert not torch.equal(module(text, patches).embedding, module(text, patches).embedding)

    module.eval()
    assert torch.equal(module(text, patches).embedding, module(text, patches).embedding)


def test_autocast():
    module = MultiModalInteraction(16, visual_dim=12)
    text, patches = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = module(text, patches).embedding
    assert_close(embedding.float(), module(text, patches).embedding, atol=0.1, rtol=0.1)


def test_bfloat16():
    module = MultiModalInteraction(16, visual_dim=12).bfloat16()
    text, patches = inputs()
    assert module(text.bfloat16(), patches.bfloat16()).embedding.dtype == torch.bfloat16


def test_copies_pickles_and_state_dicts():
    module = MultiModalInteraction(16, visual_dim=12)
    loaded = MultiModalInteraction(16, visual_dim=12)
    loaded.load_state_dict(module.state_dict())
    text, patches = inputs()
    expected = module(text, patches).embedding

    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), loaded):
        assert torch.equal(other(text, patches).embedding, expected)


def test_repr_shows_the_options():
    text = repr(MultiModalInteraction(16, readout="mean", residual=False))
    assert "readout='mean', residual=False" in text


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 12}, "expected num_heads to divide dim = 12, got 8"),
        ({"num_heads": 0}, "expected num_heads as a whole number >= 1, got 0"),
        ({"num_self_blocks": -1}, "expected num_self_blocks as a whole number >= 0, got -1"),
        ({"dropout": 1.0}, r"expected dropout in \[0, 1\), got 1"),
        ({"mlp_ratio": "4"}, "expected mlp_ratio as a number, got '4'"),
        ({"norm": "none"}, "expected norm to be one of pre, post, got 'none'"),
        ({"sequence": "query", "readout": "mean"}, 'readout="mean" needs visual tokens in the bl'),
        ({"num_self_blocks": 0, "readout": "mean"}, 'readout="mean" needs visual tokens in the b'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match="MultiModalInteraction: " + message):
        MultiModalInteraction(**{"dim": 16, **options})


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("text_shape", "visual_shape", "message"),
    [
        ((2, 16), (2, 1, 16), r"at least two visual tokens, got 1\. The softmax over one key is 1"),
        ((2, 8), (2, 3, 16), "text of width 16, got 8"),
        ((2, 16), (2, 3, 8), "visual tokens of width 16, got 8"),
        ((2, 16), (3, 3, 16), r"visual tokens \(2, T, 16\), got shape \(3, 3, 16\)"),
        ((2, 16), (2, 16), r"visual tokens \(2, T, 16\), got shape \(2, 16\)"),
    ],
)
def test_wrong_shapes(text_shape, visual_shape, message):
    with pytest.raises(ValueError, match="MultiModalInteraction: expected " + message):
        MultiModalInteraction(16)(torch.zeros(text_shape), torch.zeros(visual_shape))


@pytest.mark.unhooked
@pytest.mark.parametrize("sequence", ["joint", "query"])
def test_compiles(sequence):
    module = MultiModalInteraction(16, visual_dim=12, sequence=sequence)
    text, patches = inputs()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    expected = module(text, patches).embedding
    assert_close(compiled(text, patches).embedding, expected, atol=1e-5, rtol=1e-4)

import copy
import itertools
import pickle

import pytest
import torch
from oracles import prompts as oracle
from torch.testing import assert_close

from clipreid_kit.modules import MultiModalInteraction

OPTIONS = [
    options
    for options in (
        dict(zip(("sequence", "readout", "residual", "norm", "input_norm"), values, strict=True))
        for values in itertools.product(
            ("joint", "query"), ("query", "mean"), (True, False), ("pre", "post"), (True, False)
        )
    )
    if (options["sequence"], options["readout"]) != ("query", "mean")
]


def shaken(module):
    """Norms begin at 1 and 0: move them, so that a forgotten one is seen."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("blocks", [0, 2])
def test_equals_the_formula(options, blocks):
    if blocks == 0 and options["readout"] == "mean":
        return
    module = shaken(MultiModalInteraction(8, blocks, visual_dim=6, num_heads=2, **options)).double()
    text, patches = torch.randn(3, 8).double(), torch.randn(3, 5, 6).double()
    joint = options["sequence"] == "joint" and blocks > 0
    rest = {name: value for name, value in options.items() if name != "sequence"}
    state = dict(module.state_dict())
    expected, states, weights = oracle.interaction(
        text, patches, state, 2, blocks, joint=joint, **rest
    )
    output = module(text, patches)
    assert_close(output.embedding, expected)
    assert_close(output.attention, weights)
    assert len(output.states) == blocks + 1
    for index, state in enumerate(output.states):
        assert_close(state, torch.stack([rows[index] for rows in states]))


def test_the_printed_formula():
    """One head, no norm, no residual, no output layer: softmax(Q K^T / sqrt d) V."""
    options = {
        "sequence": "query",
        "residual": False,
        "norm": "post",
        "input_norm": False,
        "num_heads": 1,
    }
    module = MultiModalInteraction(4, 0, visual_dim=6, **options)
    torch.nn.init.eye_(module.attention.out.weight)
    torch.nn.init.zeros_(module.attention.out.bias)
    module.attended_norm = torch.nn.Identity()
    text, patches = torch.randn(1, 4), torch.randn(1, 3, 6)
    layers = module.attention
    queries, keys, values = layers.query(text[0]), layers.key(patches[0]), layers.value(patches[0])
    expected = torch.softmax(keys @ queries / 2, dim=0) @ values
    assert_close(module(text, patches).embedding[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", OPTIONS[::3], ids=lambda o: "-".join(map(str, o.values())))
def test_the_text_matters_and_every_parameter_learns(options):
    module = MultiModalInteraction(16, visual_dim=12, **options)
    text, patches = (
        torch.randn(4, 16, requires_grad=True),
        torch.randn(4, 6, 12, requires_grad=True),
    )
    output = module(text, patches)
    assert not torch.allclose(output.embedding, module(text.flip(0), patches).embedding, atol=1e-4)
    assert not torch.allclose(output.embedding, module(text, patches.flip(0)).embedding, atol=1e-4)
    output.embedding.pow(3).sum().backward()
    assert [
        name
        for name, p in module.named_parameters()
        if p.grad is None or not p.grad.abs().sum() > 1e-7
    ] == []
    assert text.grad.abs().sum() > 0
    assert patches.grad.abs().sum() > 0


def test_attention_is_a_share_of_each_patch():
    module = MultiModalInteraction(16, visual_dim=12)
    attention = module(torch.randn(4, 16), torch.randn(4, 6, 12)).attention
    assert attention.shape == (4, 6)
    assert_close(attention.sum(dim=1), torch.ones(4))


def test_the_order_of_patches_does_not_matter():
    module = MultiModalInteraction(16, visual_dim=12)
    text, patches, order = torch.randn(2, 16), torch.randn(2, 6, 12), torch.randperm(6)
    assert_close(
        module(text, patches[:, order]).embedding,
        module(text, patches).embedding,
        atol=1e-5,
        rtol=1e-4,
    )
    assert_close(
        module(text, patches[:, order]).attention, module(text, patches).attention[:, order]
    )


def test_dropout_acts_in_training_only():
    module = MultiModalInteraction(16, dropout=0.5)
    text, patches = torch.randn(2, 16), torch.randn(2, 6, 16)
    assert not torch.equal(module(text, patches).embedding, module(text, patches).embedding)
    module.eval()
    assert torch.equal(module(text, patches).embedding, module(text, patches).embedding)


def test_autocast_copies_and_pickles():
    module = MultiModalInteraction(16, visual_dim=12)
    text, patches = torch.randn(2, 16), torch.randn(2, 6, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fast = module(text, patches).embedding
    assert_close(fast.float(), module(text, patches).embedding, atol=0.1, rtol=0.1)
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(again(text, patches).embedding, module(text, patches).embedding)
    other = MultiModalInteraction(16, visual_dim=12)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(text, patches).embedding, module(text, patches).embedding)
    assert module.bfloat16()(text.bfloat16(), patches.bfloat16()).embedding.dtype == torch.bfloat16


@pytest.mark.unhooked
def test_errors():
    with pytest.raises(
        ValueError, match=r"at least two visual tokens, got 1\. The softmax over one key is 1"
    ):
        MultiModalInteraction(16)(torch.zeros(2, 16), torch.zeros(2, 1, 16))
    with pytest.raises(ValueError, match="num_heads to divide dim 12, got 8"):
        MultiModalInteraction(12)
    with pytest.raises(ValueError, match='readout="query" without visual tokens'):
        MultiModalInteraction(16, sequence="query", readout="mean")
    with pytest.raises(ValueError, match="text of width 16, got 8"):
        MultiModalInteraction(16)(torch.zeros(2, 8), torch.zeros(2, 3, 16))
    with pytest.raises(ValueError, match="visual tokens of width 16, got 8"):
        MultiModalInteraction(16)(torch.zeros(2, 16), torch.zeros(2, 3, 8))
    with pytest.raises(ValueError, match=r"visual tokens \(2, T, 16\), got shape \(2, 16\)"):
        MultiModalInteraction(16)(torch.zeros(2, 16), torch.zeros(2, 16))
    with pytest.raises(ValueError, match=r"dropout in \[0, 1\), got 1"):
        MultiModalInteraction(16, dropout=1.0)


@pytest.mark.unhooked
@pytest.mark.parametrize("sequence", ["joint", "query"])
def test_compiles(sequence):
    module = MultiModalInteraction(16, visual_dim=12, sequence=sequence)
    text, patches = torch.randn(2, 16), torch.randn(2, 6, 12)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert_close(
        compiled(text, patches).embedding, module(text, patches).embedding, atol=1e-5, rtol=1e-4
    )

import pytest
import torch
from tiny_towers import tiny_towers
from torch import nn

from clipreid_kit.clip.relevance._recorded_attention import recorded_attention

GENERATOR = torch.Generator().manual_seed(0)


def tokens(count=5):
    return torch.randn(2, count, 8, generator=GENERATOR)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("mask", [None, "float", "bool", "of each head"])
def test_outputs_and_weights_are_those_of_torch(batch_first, mask):
    layer = nn.MultiheadAttention(8, 2, batch_first=batch_first).eval()
    nn.init.normal_(layer.in_proj_bias)
    x = tokens() if batch_first else tokens().transpose(0, 1)
    masks = {
        "float": torch.full((5, 5), -torch.inf).triu(1),
        "bool": torch.ones(5, 5, dtype=torch.bool).triu(1),
        "of each head": torch.randn(4, 5, 5, generator=GENERATOR),
    }
    options = {"attn_mask": masks.get(mask)}
    expected, weights = layer(x, x, x, average_attn_weights=False, **options)

    with recorded_attention("test", [layer]) as recorded:
        found, nothing = layer(x, x, x, need_weights=False, **options)

    assert nothing is None
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(recorded.layers[0], weights)


def test_one_query_has_one_row():
    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = tokens()
    with recorded_attention("test", [layer]) as recorded:
        layer(x[:, :1], x, x)
    assert recorded.layers[0].shape == (2, 2, 1, 5)


@pytest.mark.parametrize("options", [{}, {"qk_norm": True, "norm_layer": nn.LayerNorm}])
def test_outputs_are_those_of_timm(options):
    from timm.layers import Attention

    layer = Attention(8, num_heads=2, qkv_bias=True, **options).eval()
    x = tokens()
    expected = layer(x)
    with recorded_attention("test", [layer]) as recorded:
        torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(recorded.layers[0].sum(dim=-1), torch.ones(2, 2, 5))


def test_a_mask_of_timm_says_what_is_seen():
    from timm.layers import Attention

    layer = Attention(8, num_heads=2).eval()
    x = tokens()
    for mask in (torch.ones(5, 5, dtype=torch.bool).tril(), torch.randn(5, 5)):
        expected = layer(x, mask)
        with recorded_attention("test", [layer]):
            torch.testing.assert_close(layer(x, attn_mask=mask), expected)


@pytest.mark.unhooked
def test_arguments_that_would_be_lost_are_refused():
    from timm.layers import Attention

    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = tokens()
    padding = torch.zeros(2, 5, dtype=torch.bool)
    text = "test: attention with a key_padding_mask cannot be recorded"
    with recorded_attention("test", [layer]):
        with pytest.raises(ValueError, match=text):
            layer(x, x, x, key_padding_mask=padding)
        with pytest.raises(ValueError, match=text):
            layer(x, x, x, padding)

    layer = Attention(8, num_heads=2).eval()
    with recorded_attention("test", [layer]), pytest.raises(ValueError, match="is_causal=True"):
        layer(x, is_causal=True)


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 4}])
def test_attention_with_other_keys_is_refused(options):
    layer = nn.MultiheadAttention(8, 2, **options)
    text = "the attention of MultiheadAttention cannot be recorded"
    with pytest.raises(ValueError, match=text), recorded_attention("test", [layer]):
        pass


def test_the_hooks_are_removed_also_after_an_error():
    layer = nn.MultiheadAttention(8, 2, batch_first=True)

    def interrupted():
        with recorded_attention("test", [layer]):
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert not layer._forward_hooks


def test_frozen_weights_still_have_a_gradient():
    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval().requires_grad_(False)
    x = tokens()
    with recorded_attention("test", [layer]) as recorded:
        out, _ = layer(x, x, x)
    assert torch.autograd.grad(out.sum(), recorded.layers)[0].abs().sum() > 0


def test_unknown_layers_are_refused():
    text = "the attention of Linear cannot be recorded"
    with pytest.raises(ValueError, match=text), recorded_attention("test", [nn.Linear(2, 2)]):
        pass


def test_whole_towers_embed_as_before():
    towers = tiny_towers(image_size=(32, 16)).eval()
    images = torch.rand(2, 3, 32, 16, generator=GENERATOR)
    expected = towers.encode_image(images)
    layers = [block.attn for block in towers.model.visual.transformer.resblocks]
    with recorded_attention("test", layers) as recorded:
        torch.testing.assert_close(towers.encode_image(images), expected)
    assert len(recorded.layers) == len(layers)

import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.modules._attention import QueryAttention, SelfBlock


def test_query_attention_equals_that_of_torch():
    ours = QueryAttention(8, 6, num_heads=2)
    theirs = torch.nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)
    with torch.no_grad():
        theirs.q_proj_weight.copy_(ours.query.weight)
        theirs.k_proj_weight.copy_(ours.key.weight)
        theirs.v_proj_weight.copy_(ours.value.weight)
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.zeros(8), ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    query = torch.randn(3, 8)
    tokens = torch.randn(3, 5, 6)

    values, weights = ours(query, tokens)

    expected_values, expected_weights = theirs(query[:, None], tokens, tokens)
    assert_close(values, expected_values[:, 0], atol=1e-5, rtol=1e-4)
    assert_close(weights, expected_weights[:, 0], atol=1e-5, rtol=1e-4)


def block(**options):
    defaults = {"single": False, "post_norm": False, "mlp_ratio": 4.0, "dropout": 0.0}
    return SelfBlock(8, 2, **{**defaults, **options})


@pytest.mark.parametrize("post_norm", [True, False])
def test_a_single_token_needs_no_queries_and_keys(post_norm):
    single = block(single=True, post_norm=post_norm)
    full = block(post_norm=post_norm)
    full.load_state_dict(single.state_dict(), strict=False)
    token = torch.randn(3, 1, 8)

    assert single.query is None
    assert single.key is None
    assert_close(single(token), full(token), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("mlp_ratio", "hidden_dim"), [(4.0, 32), (0.5, 4), (0.0, 1)])
def test_width_of_the_mlp(mlp_ratio, hidden_dim):
    assert block(mlp_ratio=mlp_ratio).mlp[0].out_features == hidden_dim

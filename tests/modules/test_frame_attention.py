import pytest
import torch
from oracles import frames as oracle

from clipreid_kit import FrameAttention


def trained():
    module = FrameAttention(4, hidden_dim=3).double()
    torch.nn.init.normal_(module.score.weight, generator=torch.Generator().manual_seed(0))
    return module


def test_is_the_attention_of_the_oracle():
    module = trained()
    frames = torch.randn(3, 5, 4, dtype=torch.float64)
    parameters = (module.hidden.weight, module.hidden.bias, module.score.weight[0])
    weight, bias, score = (parameter.tolist() for parameter in parameters)

    expected = [oracle.attention(row, weight, bias, score) for row in frames.tolist()]
    torch.testing.assert_close(module(frames), torch.tensor(expected, dtype=torch.float64))


def test_weights_sum_to_one_and_are_zero_for_padding():
    module = trained()
    valid = torch.tensor([[True, False, True], [False, False, False]])
    weights = module.weights(torch.randn(2, 3, 4, dtype=torch.float64), valid)

    assert (weights[~valid] == 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.tensor([1.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("options", [{"dim": 0}, {"dim": 4, "hidden_dim": 0}])
def test_wrong_options(options):
    with pytest.raises(ValueError, match=r"^FrameAttention: expected (hidden_)?dim as a whole"):
        FrameAttention(**options)

import pytest
import torch
from torch.testing import assert_close

from clipreid_kit import FeatureAdapter, TripletLoss
from clipreid_kit.distances import l2_normalize

ROWS = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
UNIT = ROWS / ROWS.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("hidden_dim", [None, 5])
def test_before_training_the_embeddings_are_the_frozen_ones(hidden_dim):
    adapter = FeatureAdapter(8, hidden_dim=hidden_dim)
    assert torch.equal(adapter(3 * ROWS), l2_normalize(3 * ROWS))


@pytest.mark.parametrize("dim", [3, 12])
def test_another_width_begins_orthonormal(dim):
    weight = FeatureAdapter(8, dim).linear.weight
    product = weight @ weight.T if dim < 8 else weight.T @ weight
    assert_close(product, torch.eye(min(dim, 8)), atol=1e-6, rtol=0)


def test_the_formula():
    adapter = FeatureAdapter(8, 3, hidden_dim=5)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)

    first, _, second = adapter.mlp
    hidden = (UNIT @ first.weight.T + first.bias).clamp(min=0)
    expected = UNIT @ adapter.linear.weight.T + adapter.linear.bias
    assert_close(adapter(ROWS), expected + hidden @ second.weight.T + second.bias)
    assert adapter(ROWS[:0]).shape == (0, 3)


def test_every_parameter_trains():
    adapter = FeatureAdapter(8, hidden_dim=5)
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.1)
    for _ in range(2):  # the first layer of the MLP moves when the second has
        optimizer.zero_grad()
        TripletLoss(1.0)(adapter(ROWS), torch.tensor([0, 0, 1, 1, 2, 2])).backward()
        optimizer.step()
    assert all(parameter.grad.any() for parameter in adapter.parameters())


@pytest.mark.unhooked
def test_errors():
    with pytest.raises(ValueError, match="FeatureAdapter: expected in_dim"):
        FeatureAdapter(0)
    with pytest.raises(ValueError, match="FeatureAdapter: expected hidden_dim"):
        FeatureAdapter(4, hidden_dim=0)
    with pytest.raises(ValueError, match="FeatureAdapter: expected embeddings of width 4, got 8"):
        FeatureAdapter(4)(ROWS)

import pytest
import torch
from oracles import contrastive
from torch.testing import assert_close

from clipreid_kit.losses import SelfSupervisionLoss


def test_equals_nt_xent_of_the_projections():
    rows = torch.randn(6, 5)
    image_ids = torch.tensor([9, 2, 9, 2, 4, 4])
    loss = SelfSupervisionLoss(5, hidden_dim=7, out_dim=3, temperature=0.2)

    first, _, second = loss.projection
    hidden = (rows @ first.weight.T + first.bias).clamp(min=0)
    projections = (hidden @ second.weight.T + second.bias).tolist()
    expected = contrastive.nt_xent(projections, image_ids.tolist(), 0.2)
    assert_close(loss(rows, image_ids).item(), expected, atol=1e-5, rtol=1e-5)


def test_a_batch_of_single_views_has_no_loss():
    loss = SelfSupervisionLoss(5)
    rows = torch.randn(3, 5, requires_grad=True)
    value = loss(rows, torch.arange(3))
    value.backward()
    assert value == 0
    assert not rows.grad.any()


def test_the_projection_learns():
    loss = SelfSupervisionLoss(5)
    loss(torch.randn(4, 5), torch.tensor([0, 0, 1, 1])).backward()
    assert all(parameter.grad.any() for parameter in loss.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim as a whole number >= 1, got 0"),
        ({"hidden_dim": 0}, "hidden_dim as a whole number >= 1, got 0"),
        ({"out_dim": 0}, r"out_dim as a whole number >= 1, got 0"),
        ({"temperature": 0.0}, "temperature > 0, got 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match="SelfSupervisionLoss: expected " + message):
        SelfSupervisionLoss(**{"dim": 5, **options})


@pytest.mark.unhooked
def test_wrong_width():
    with pytest.raises(ValueError, match="SelfSupervisionLoss: expected embeddings of width 5"):
        SelfSupervisionLoss(5)(torch.randn(2, 4), torch.zeros(2).long())


def test_float64_and_autocast():
    loss = SelfSupervisionLoss(5)
    rows, image_ids = torch.randn(4, 5), torch.tensor([0, 0, 1, 1])
    expected = loss(rows, image_ids)
    assert loss(rows.double(), image_ids).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(rows, image_ids), expected)

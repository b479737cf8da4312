import pytest
import torch

from clipreid_kit.modules import BNNeck


def test_both_sides():
    neck = BNNeck(3)
    rows = torch.randn(16, 3) * 5 + 2
    before, after = neck(rows)
    assert torch.equal(before, rows)
    torch.testing.assert_close(after.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(after.std(dim=0, unbiased=False), torch.ones(3), atol=1e-3, rtol=0)


def test_shift_is_fixed_and_scale_learns():
    neck = BNNeck(3)
    (neck(torch.randn(8, 3)).after ** 2 * torch.arange(3)).sum().backward()
    assert [name for name, p in neck.named_parameters() if p.requires_grad] == ["norm.weight"]
    assert neck.norm.weight.grad.abs().sum() > 0
    assert neck.norm.bias.grad is None


def test_reduction():
    neck = BNNeck(6, reduced_dim=2)
    output = neck(torch.randn(5, 6))
    assert output.before.shape == output.after.shape == (5, 2)
    assert neck.out_dim == 2
    output.after.pow(3).sum().backward()
    assert neck.reduction.weight.grad.abs().sum() > 0


def test_eval_takes_one_row():
    assert BNNeck(3).eval()(torch.ones(1, 3)).after.shape == (1, 3)


@pytest.mark.unhooked
def test_errors():
    with pytest.raises(
        ValueError, match=r"BNNeck: expected at least two rows in training mode, got one\. Drop"
    ):
        BNNeck(3)(torch.ones(1, 3))
    with pytest.raises(ValueError, match="embeddings of width 3, got 4"):
        BNNeck(3)(torch.ones(2, 4))
    with pytest.raises(ValueError, match="dim as a whole number >= 1, got 0"):
        BNNeck(0)
    with pytest.raises(ValueError, match="reduced_dim as a whole number >= 1, got -2"):
        BNNeck(4, -2)

import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.modules import BNNeck


def test_normalises_after_and_not_before():
    neck = BNNeck(3)
    rows = torch.randn(16, 3) * 5 + 2

    before, after = neck(rows)

    assert torch.equal(before, rows)
    assert_close(after.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    assert_close(after.std(dim=0, unbiased=False), torch.ones(3), atol=1e-3, rtol=0)


def test_the_shift_is_fixed_and_the_scale_learns():
    neck = BNNeck(3)
    after = neck(torch.randn(8, 3)).after
    (after**2 * torch.arange(3)).sum().backward()

    trainable = [name for name, p in neck.named_parameters() if p.requires_grad]
    assert trainable == ["norm.weight"]
    assert neck.norm.weight.grad.abs().sum() > 0
    assert neck.norm.bias.grad is None


def test_reduction():
    neck = BNNeck(6, reduced_dim=2)
    output = neck(torch.randn(5, 6))
    output.after.pow(3).sum().backward()

    assert output.before.shape == output.after.shape == (5, 2)
    assert neck.out_dim == 2
    assert neck.reduction.weight.grad.abs().sum() > 0


def test_one_row_in_evaluation():
    assert BNNeck(3).eval()(torch.ones(1, 3)).after.shape == (1, 3)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "dim as a whole number >= 1, got 0"),
        (("4",), "dim as a whole number >= 1, got '4'"),
        ((4, -2), "reduced_dim as a whole number >= 1, got -2"),
    ],
)
def test_wrong_widths(arguments, message):
    with pytest.raises(ValueError, match="BNNeck: expected " + message):
        BNNeck(*arguments)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (torch.ones(1, 3), "BNNeck: training mode needs at least two rows, .* drop the last batch"),
        (torch.ones(2, 4), "BNNeck: expected embeddings of width 3, got 4"),
    ],
)
def test_wrong_embeddings(embeddings, message):
    with pytest.raises(ValueError, match=message):
        BNNeck(3)(embeddings)

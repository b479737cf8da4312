"""The formula on the rows of one process; those of two are in test_distributed.py."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from clipreid_kit.modules import _cross_rank_batch_norm as cross_rank
from clipreid_kit.modules._cross_rank_batch_norm import CrossRankBatchNorm1d, moments_of_all_ranks


@pytest.fixture
def two_ranks(monkeypatch):
    """Take the path of several ranks, where the other ones have no rows."""
    monkeypatch.setattr(cross_rank, "world_size", lambda: 2)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.usefixtures("two_ranks")
def test_equals_the_batch_norm_of_torch(affine):
    ours = CrossRankBatchNorm1d(3, affine=affine)
    theirs = nn.BatchNorm1d(3, affine=affine)
    rows = torch.randn(3, 7, 3) * 5 + 20
    assert ours.state_dict().keys() == theirs.state_dict().keys()

    for batch in rows:
        gradients = []
        for norm in (ours, theirs):
            leaf = batch.clone().requires_grad_()
            norm(leaf).pow(3).sum().backward()
            gradients.append(leaf.grad)
        assert_close(*gradients, atol=1e-4, rtol=1e-4)

    for name, tensor in ours.state_dict().items():
        assert_close(tensor, theirs.state_dict()[name], msg=name)
    if affine:
        assert_close(ours.weight.grad, theirs.weight.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("two_ranks")
def test_gradient_in_float64():
    norm = CrossRankBatchNorm1d(3).double()
    rows = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (rows,))


@pytest.mark.usefixtures("two_ranks")
def test_half_precision_comes_back_in_half_precision():
    rows = (torch.randn(6, 3) + 30).bfloat16()
    normalised = CrossRankBatchNorm1d(3)(rows)
    assert normalised.dtype == torch.bfloat16
    assert_close(normalised.float().mean(dim=0), torch.zeros(3), atol=0.02, rtol=0)


@given(offset=st.floats(-1e4, 1e4), num_rows=st.integers(2, 20))
def test_an_offset_does_not_change_the_variance(offset, num_rows):
    rows = torch.randn(num_rows, 2, dtype=torch.float64)
    count, mean, variance = moments_of_all_ranks(rows)
    _, moved_mean, moved = moments_of_all_ranks(rows + offset)
    assert count == num_rows
    assert_close(variance, rows.var(dim=0, unbiased=False))
    assert_close(moved, variance, atol=1e-9, rtol=1e-9)
    assert_close(moved_mean, mean + offset)


@pytest.mark.parametrize("num_rows", [0, 1])
def test_too_few_rows(num_rows):
    with pytest.raises(ValueError, match="BNNeck: training mode needs at least two rows over all"):
        moments_of_all_ranks(torch.ones(num_rows, 3))

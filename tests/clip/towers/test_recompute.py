import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from clipreid_kit.clip.towers.recompute import run_block


def counted(block):
    """A block that records its calls."""
    calls = []

    def call(x):
        calls.append(1)
        return block(x)

    return call, calls


@pytest.mark.parametrize(("recompute", "num_calls"), [(False, 1), (True, 2)])
def test_a_block_is_run_again_in_the_backward_pass_only_if_requested(recompute, num_calls):
    block, calls = counted(nn.Linear(3, 3))
    x = torch.randn(4, 3)

    run_block(block, x, recompute).sum().backward()

    assert len(calls) == num_calls


def test_values_and_gradients_equal_those_of_a_plain_call():
    block = nn.Sequential(nn.Linear(3, 3), nn.GELU())
    twin = copy.deepcopy(block)
    x = torch.randn(4, 3)

    expected, found = run_block(block, x, False), run_block(twin, x, True)
    expected.sum().backward()
    found.sum().backward()

    assert torch.equal(found, expected)
    for ours, plain in zip(twin.parameters(), block.parameters(), strict=True):
        assert_close(ours.grad, plain.grad)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norms_count_a_batch_once(momentum):
    block = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, momentum=momentum))
    twin = copy.deepcopy(block)
    x = torch.randn(4, 3)

    run_block(block, x, False).sum().backward()
    run_block(twin, x, True, batch_norm_owner=twin).sum().backward()

    assert twin[1].num_batches_tracked.item() == 1
    assert twin[1].momentum == momentum
    assert_close(twin[1].running_mean, block[1].running_mean)
    assert_close(twin[1].running_var, block[1].running_var)


def test_settings_of_batch_norms_return_after_a_failure():
    block = nn.Sequential(nn.BatchNorm1d(3))
    x = torch.randn(4, 3)
    fails = False

    def run(x):
        if fails:
            raise RuntimeError("interrupted")
        return block(x)

    out = run_block(run, x.requires_grad_(), True, batch_norm_owner=block)
    fails = True
    with pytest.raises(RuntimeError, match="interrupted"):
        out.sum().backward()

    assert block[0].momentum == 0.1
    assert block[0].num_batches_tracked.item() == 1

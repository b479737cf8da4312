"""Learning rates that neighbouring schedules silently get wrong."""

import itertools
import math

import pytest
import torch

from clipreid_kit import WarmupCosineLR, WarmupMultiStepLR


def optimizer_of(lr=0.4):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(schedule, optimizer, num_steps):
    found = []
    for _ in range(num_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_rate_of_every_step():
    """pytorch/pytorch PR#180200: a warm-up chained with a cosine resumes with another rate.

    Here: the rate is a function of the step, and a run resumed at any step continues it.
    """
    optimizer = optimizer_of()
    whole = rates(WarmupCosineLR(optimizer, 3, 10), optimizer, 10)

    for step in range(9):
        first = optimizer_of()
        schedule = WarmupCosineLR(first, 3, 10)
        rates(schedule, first, step)

        second = optimizer_of()
        resumed = WarmupCosineLR(second, 3, 10)
        resumed.load_state_dict(schedule.state_dict())
        second.load_state_dict(first.state_dict())
        assert rates(resumed, second, 10 - step) == pytest.approx(whole[step:])


def test_one_cosine_over_the_run():
    """huggingface/accelerate#2142: with two processes the schedule ends after half of the run.

    Here: the number of steps is the one that is given: half way the rate is half the peak, and
    the last step is the lowest; it falls all the way.
    """
    optimizer = optimizer_of(1.0)
    found = rates(WarmupCosineLR(optimizer, 0, 100), optimizer, 100)

    assert found[50] == pytest.approx((1 + math.cos(math.pi * 50 / 100)) / 2, abs=0.02)
    assert all(later < earlier for earlier, later in itertools.pairwise(found))


@pytest.mark.unhooked
def test_steps_beyond_the_end():
    """huggingface/accelerate PR#849: a schedule steps on beyond its last step.

    Here: an error, since the rate would rise again or stay at 0.
    """
    optimizer = optimizer_of()
    schedule = WarmupMultiStepLR(optimizer, 1, [2], total_steps=3)
    rates(schedule, optimizer, 3)
    with pytest.raises(ValueError, match="total_steps"):
        rates(schedule, optimizer, 3)


@pytest.mark.parametrize("total_steps", [None, 5])
def test_a_prepared_schedule_steps(total_steps):
    """huggingface/accelerate PR#849: a prepared schedule is compared with its `total_steps`.

    Here: with and without an end, a schedule that accelerate wraps has the rates of the bare one.
    """
    accelerate = pytest.importorskip("accelerate")
    bare, wrapped = optimizer_of(), optimizer_of()
    want = rates(WarmupMultiStepLR(bare, 1, [3], total_steps=total_steps), bare, 4)

    accelerator = accelerate.Accelerator(cpu=True)
    prepared, schedule = accelerator.prepare(
        wrapped, WarmupMultiStepLR(wrapped, 1, [3], total_steps=total_steps)
    )
    assert rates(schedule, prepared, 4) == pytest.approx(want)

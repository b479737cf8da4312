import itertools
import math
from bisect import bisect_right

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.schedulers import WarmupMultiStepLR, warmup_multistep_factor


@st.composite
def schedules(draw):
    warmup = draw(st.integers(0, 8))
    milestones = sorted(draw(st.sets(st.integers(max(warmup, 1), 30), max_size=4)))
    return warmup, milestones, draw(st.floats(0, 1)), draw(st.floats(0, 1))


@given(schedules())
def test_rises_then_falls_by_gamma_at_each_milestone(schedule):
    warmup, milestones, gamma, start = schedule
    factors = [
        warmup_multistep_factor(t, warmup, milestones, gamma=gamma, start_factor=start)
        for t in range(33)
    ]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(factors[:warmup]))
    assert all(a >= b for a, b in itertools.pairwise(factors[max(warmup - 1, 0) :]))
    assert factors[-1] == pytest.approx(gamma ** len(milestones))
    for earlier, later, t in zip(
        factors[warmup:], factors[warmup + 1 :], itertools.count(warmup + 1)
    ):
        assert later == pytest.approx(earlier * (gamma if t in milestones else 1), abs=1e-12)
    if warmup:
        assert factors[warmup - 1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("warmup_factor", "milestones", "epochs"), [(0.1, [30, 50], 60), (0.01, [40, 70], 120)]
)
def test_equals_clip_reid_with_milestones_one_earlier(warmup_factor, milestones, epochs):
    for epoch in range(
        1, epochs + 1
    ):  # there the scheduler is stepped before the epoch, and so begins at 1
        share = 1.0
        if epoch < 10:
            share = warmup_factor * (1 - epoch / 10) + epoch / 10
        want = share * 0.1 ** bisect_right(milestones, epoch)
        ours = [m - 1 for m in milestones]
        assert warmup_multistep_factor(
            epoch - 1, 10, ours, start_factor=warmup_factor
        ) == pytest.approx(want)


def optimizer_with_two_groups():
    a, b = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    return torch.optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 0.1}])


def run(scheduler, optimizer, count):
    trace = []
    for _ in range(count):
        trace.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return trace


def test_trace_equals_the_closed_form_in_every_group():
    optimizer = optimizer_with_two_groups()
    trace = run(WarmupMultiStepLR(optimizer, 3, [5, 9], 0.5, start_factor=0.1), optimizer, 12)
    for t, (first, second) in enumerate(trace):
        want = warmup_multistep_factor(t, 3, [5, 9], gamma=0.5, start_factor=0.1)
        assert (first, second) == (pytest.approx(want), pytest.approx(0.1 * want))


def test_without_warmup_it_is_that_of_torch():
    optimizer = optimizer_with_two_groups()
    ours = run(WarmupMultiStepLR(optimizer, 0, [4, 6]), optimizer, 10)
    optimizer = optimizer_with_two_groups()
    theirs = run(torch.optim.lr_scheduler.MultiStepLR(optimizer, [4, 6]), optimizer, 10)
    for ours_now, theirs_now in zip(ours, theirs, strict=True):
        assert ours_now == pytest.approx(theirs_now)


@pytest.mark.parametrize("with_optimizer", [True, False])
@pytest.mark.parametrize("stop", range(11))
def test_resumed_run_continues_the_trace(with_optimizer, stop):
    optimizer = optimizer_with_two_groups()
    want = run(WarmupMultiStepLR(optimizer, 3, [4, 7], total_steps=10), optimizer, 10)
    optimizer = optimizer_with_two_groups()
    scheduler = WarmupMultiStepLR(optimizer, 3, [4, 7], total_steps=10)
    run(scheduler, optimizer, stop)
    states = optimizer.state_dict(), scheduler.state_dict()
    fresh = optimizer_with_two_groups()
    resumed = WarmupMultiStepLR(fresh, 3, [4, 7], total_steps=10)
    if with_optimizer:
        fresh.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    assert resumed.get_last_lr() == scheduler.get_last_lr()
    assert run(resumed, fresh, 10 - stop) == want[stop:]


def test_ends_where_it_has_an_end():
    optimizer = optimizer_with_two_groups()
    scheduler = WarmupMultiStepLR(optimizer, 1, [2], total_steps=4)
    run(scheduler, optimizer, 4)
    optimizer.step()
    with pytest.raises(
        ValueError, match=r"WarmupMultiStepLR: expected at most total_steps = 4 steps, got one more"
    ):
        scheduler.step()
    with pytest.raises(ValueError, match=r"step in \[0, total_steps = 4\], got 5"):
        warmup_multistep_factor(5, 1, [2], total_steps=4)
    endless = WarmupMultiStepLR(optimizer, 1, [2])
    run(endless, optimizer, 100)
    assert endless.get_last_lr()[0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((-1, [3]), {}, "warmup_steps as a whole number >= 0, got -1"),
        ((1, [3, 3]), {}, r"milestones that rise, got \[3, 3\]"),
        ((1, [5, 3]), {}, r"milestones that rise, got \[5, 3\]"),
        ((1, [0]), {}, "milestones as a whole number >= 1, got 0"),
        ((4, [3]), {}, r"milestones not below warmup_steps = 4, got \[3\]"),
        ((1, [3]), {"gamma": 1.5}, r"gamma in \[0, 1\], got 1\.5"),
        ((1, [3]), {"gamma": math.nan}, r"gamma in \[0, 1\], got nan"),
        ((1, [3]), {"start_factor": 2.0}, r"start_factor in \[0, 1\], got 2\.0"),
        (
            (1, [3]),
            {"total_steps": 3},
            r"total_steps above .* got 3 with 1 and \[3\]\. Count all of them in one unit",
        ),
        ((3, []), {"total_steps": 3}, r"total_steps above .* got 3 with 3 and \[\]"),
    ],
)
def test_errors(arguments, options, message):
    with pytest.raises(ValueError, match="WarmupMultiStepLR: expected " + message):
        WarmupMultiStepLR(optimizer_with_two_groups(), *arguments, **options)
    with pytest.raises(ValueError, match="warmup_multistep_factor: expected " + message):
        warmup_multistep_factor(0, *arguments, **options)


def test_no_step_before_the_first():
    with pytest.raises(ValueError, match="step as a whole number >= 0, got -1"):
        warmup_multistep_factor(-1, 2, [3])


@pytest.mark.unhooked
def test_counts_are_whole_numbers():
    with pytest.raises(ValueError, match=r"milestones as a whole number >= 1, got 2\.5"):
        warmup_multistep_factor(2, 1, [2.5])

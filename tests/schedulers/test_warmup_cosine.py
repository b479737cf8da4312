import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.schedulers import WarmupCosineLR, warmup_cosine_factor

steps = st.tuples(st.integers(0, 20), st.integers(1, 60)).map(
    lambda pair: (pair[0], pair[0] + pair[1])
)


@given(steps, st.floats(0, 1), st.floats(0, 1))
def test_rises_then_falls_within_bounds(lengths, start, floor):
    warmup, total = lengths
    factors = [
        warmup_cosine_factor(t, warmup, total, start_factor=start, min_factor=floor)
        for t in range(total + 1)
    ]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(factors[: warmup + 1]))
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(factors[warmup:]))
    assert max(factors) == pytest.approx(1)
    assert factors[0] > 0 or total == 0
    assert factors[-1] == pytest.approx(floor)


def test_values_by_hand():
    assert warmup_cosine_factor(0, 4, 10, start_factor=0.2) == pytest.approx(0.2 + 0.8 / 4)
    assert warmup_cosine_factor(6, 4, 10, min_factor=0.1) == pytest.approx(
        0.1 + 0.45 * (1 + math.cos(math.pi / 3))
    )


@given(steps, st.floats(0, 1), st.integers(1, 15), st.integers(1, 3))
def test_restarts_are_the_periods_of_the_paper(lengths, floor, period, growth):
    warmup, total = lengths
    # the loop of the paper: T_cur counts the steps since the last restart, T_i is the length of the period
    want, t_cur, t_i = [], 0, period
    for _ in range(total - warmup):
        want.append(floor + (1 - floor) / 2 * (1 + math.cos(math.pi * t_cur / t_i)))
        t_cur += 1
        if t_cur == t_i:
            t_cur, t_i = 0, t_i * growth
    got = [
        warmup_cosine_factor(
            t, warmup, total, min_factor=floor, restart_period=period, period_growth=growth
        )
        for t in range(warmup, total + 1)
    ]
    assert got[:-1] == pytest.approx(want)
    assert got[-1] == pytest.approx(
        floor + (1 - floor) / 2 * (1 + math.cos(math.pi * t_cur / t_i)) if t_cur else floor
    )


@given(steps, st.floats(0, 1))
def test_one_period_to_the_end_is_the_schedule_without_restarts(lengths, floor):
    warmup, total = lengths
    for t in range(total + 1):
        plain = warmup_cosine_factor(t, warmup, total, min_factor=floor)
        assert (
            warmup_cosine_factor(t, warmup, total, min_factor=floor, restart_period=total - warmup)
            == plain
        )


def test_restarts_equal_those_of_torch():
    optimizer = optimizer_with_two_groups()
    ours = run(
        WarmupCosineLR(optimizer, 0, 21, min_lr=0.01, restart_period=3, period_growth=2),
        optimizer,
        21,
    )
    optimizer = optimizer_with_two_groups()
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, T_0=3, T_mult=2, eta_min=0.01
    )
    for ours_now, theirs_now in zip(ours, run(theirs, optimizer, 21), strict=True):
        assert ours_now == pytest.approx(theirs_now)


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
    trace = run(WarmupCosineLR(optimizer, 3, 12, min_lr=0.01), optimizer, 12)
    for t, (first, second) in enumerate(trace):
        assert first == pytest.approx(warmup_cosine_factor(t, 3, 12, min_factor=0.01))
        assert second == pytest.approx(0.1 * warmup_cosine_factor(t, 3, 12, min_factor=0.1))
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(0.01)] * 2


@pytest.mark.parametrize("options", [{}, {"restart_period": 2, "period_growth": 2}])
@pytest.mark.parametrize("with_optimizer", [True, False])
@pytest.mark.parametrize("stop", range(13))
def test_resumed_run_continues_the_trace(options, with_optimizer, stop):
    optimizer = optimizer_with_two_groups()
    want = run(WarmupCosineLR(optimizer, 3, 12, **options), optimizer, 12)
    optimizer = optimizer_with_two_groups()
    scheduler = WarmupCosineLR(optimizer, 3, 12, **options)
    run(scheduler, optimizer, stop)
    states = optimizer.state_dict(), scheduler.state_dict()
    fresh = optimizer_with_two_groups()
    resumed = WarmupCosineLR(fresh, 3, 12, **options)
    if with_optimizer:  # its state holds the rates, too
        fresh.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    assert resumed.get_last_lr() == scheduler.get_last_lr()
    assert run(resumed, fresh, 12 - stop) == want[stop:]


def test_rates_that_are_tensors_stay_the_same_tensors():
    rate = torch.tensor(1.0)
    optimizer = torch.optim.AdamW(
        [torch.nn.Parameter(torch.zeros(1))], lr=rate, capturable=False, foreach=False
    )
    scheduler = WarmupCosineLR(optimizer, 2, 6)
    scheduler.load_state_dict({**scheduler.state_dict(), "last_epoch": 4})
    held = optimizer.param_groups[0]["lr"]
    assert isinstance(held, torch.Tensor)
    assert held.item() == pytest.approx(0.5)


def test_refuses_to_run_past_its_end():
    optimizer = optimizer_with_two_groups()
    scheduler = WarmupCosineLR(optimizer, 1, 4)
    run(scheduler, optimizer, 4)
    optimizer.step()
    with pytest.raises(
        ValueError,
        match=r"at most total_steps = 4 steps, got one more\. Count total_steps in the unit",
    ):
        scheduler.step()


def test_errors():
    optimizer = optimizer_with_two_groups()
    with pytest.raises(ValueError, match="total_steps above warmup_steps, got 3 and 3"):
        WarmupCosineLR(optimizer, 3, 3)
    with pytest.raises(ValueError, match="warmup_steps as a whole number >= 0, got -1"):
        WarmupCosineLR(optimizer, -1, 3)
    with pytest.raises(
        ValueError, match=r"min_lr not above the peak rate 0\.1 of every group, got 0\.5"
    ):
        WarmupCosineLR(optimizer, 1, 3, min_lr=0.5)
    with pytest.raises(ValueError, match=r"step in \[0, total_steps = 10\], got 11"):
        warmup_cosine_factor(11, 2, 10)
    with pytest.raises(ValueError, match=r"min_factor in \[0, 1\], got 2"):
        warmup_cosine_factor(1, 2, 10, min_factor=2)
    with pytest.raises(
        ValueError, match=r"WarmupCosineLR: expected start_factor in \[0, 1\], got -1"
    ):
        WarmupCosineLR(optimizer, 1, 3, start_factor=-1)
    with pytest.raises(ValueError, match="restart_period as a whole number >= 1, got 0"):
        WarmupCosineLR(optimizer, 1, 3, restart_period=0)
    with pytest.raises(ValueError, match="period_growth as a whole number >= 1, got 0"):
        warmup_cosine_factor(1, 2, 10, restart_period=2, period_growth=0)


@pytest.mark.unhooked
def test_counts_are_whole_numbers():
    with pytest.raises(ValueError, match=r"warmup_steps as a whole number >= 0, got 2\.5"):
        warmup_cosine_factor(2, 2.5, 10)
    with pytest.raises(ValueError, match=r"total_steps as a whole number >= 1, got 10\.5"):
        WarmupCosineLR(optimizer_with_two_groups(), 1, 10.5)

import copy
import itertools
import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from clipreid_kit.schedulers import WarmupCosineLR, warmup_cosine_factor

ROUNDING = 1e-12


@st.composite
def lengths(draw):
    """Warm-up steps and total steps."""
    warmup_steps = draw(st.integers(0, 20))
    return warmup_steps, warmup_steps + draw(st.integers(1, 60))


def factors_of(warmup_steps, total_steps, **options):
    return [
        warmup_cosine_factor(step, warmup_steps, total_steps, **options)
        for step in range(total_steps + 1)
    ]


@given(lengths(), st.floats(0, 1), st.floats(0, 1))
@example((1, 2), 1e-15, 1.0)  # s + (1 - s) is not exactly 1
def test_rises_to_the_peak_then_falls_to_the_floor(lengths, start_factor, min_factor):
    warmup_steps, total_steps = lengths
    factors = factors_of(
        warmup_steps, total_steps, start_factor=start_factor, min_factor=min_factor
    )

    for earlier, later in itertools.pairwise(factors[: warmup_steps + 1]):
        assert later >= earlier - ROUNDING
    for earlier, later in itertools.pairwise(factors[warmup_steps:]):
        assert later <= earlier + ROUNDING
    assert max(factors) == pytest.approx(1)
    assert factors[0] > 0
    assert factors[-1] == pytest.approx(min_factor)


def test_values_by_hand():
    first = warmup_cosine_factor(0, 4, 10, start_factor=0.2)
    third_after_warmup = warmup_cosine_factor(6, 4, 10, min_factor=0.1)

    assert first == pytest.approx(0.2 + 0.8 / 4)
    assert third_after_warmup == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi / 3)))


@given(lengths(), st.floats(0, 1), st.integers(1, 15), st.integers(1, 3))
def test_restarts_are_the_periods_of_the_paper(lengths, min_factor, first_period, growth):
    warmup_steps, total_steps = lengths

    def in_period(steps, period):
        return min_factor + (1 - min_factor) / 2 * (1 + math.cos(math.pi * steps / period))

    # The loop of the paper: T_cur counts the steps since the last restart, T_i is the length of the
    # period.
    expected = []
    t_cur, t_i = 0, first_period
    for _ in range(total_steps - warmup_steps):
        expected.append(in_period(t_cur, t_i))
        t_cur += 1
        if t_cur == t_i:
            t_cur, t_i = 0, t_i * growth

    # Where the schedule ends with a period, its last value is not that of a restart.
    expected.append(in_period(t_cur, t_i) if t_cur > 0 else min_factor)

    factors = factors_of(
        warmup_steps,
        total_steps,
        min_factor=min_factor,
        restart_period=first_period,
        period_growth=growth,
    )
    assert factors[warmup_steps:] == pytest.approx(expected)


@given(lengths(), st.floats(0, 1))
def test_one_period_to_the_end_is_the_schedule_without_restarts(lengths, min_factor):
    warmup_steps, total_steps = lengths
    plain = factors_of(*lengths, min_factor=min_factor)
    one_period = factors_of(
        *lengths, min_factor=min_factor, restart_period=total_steps - warmup_steps
    )
    assert one_period == plain


def optimizer_with_two_groups():
    first = torch.nn.Parameter(torch.zeros(1))
    second = torch.nn.Parameter(torch.zeros(1))
    return torch.optim.SGD([{"params": [first], "lr": 1.0}, {"params": [second], "lr": 0.1}])


def trace_of(scheduler, num_steps):
    """Rates of all groups at each step."""
    trace = []
    for _ in range(num_steps):
        trace.append([group["lr"] for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step()
    return trace


def test_restarts_equal_those_of_torch():
    ours = WarmupCosineLR(
        optimizer_with_two_groups(), 0, 21, min_lr=0.01, restart_period=3, period_growth=2
    )
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer_with_two_groups(), T_0=3, T_mult=2, eta_min=0.01
    )

    for rates, expected in zip(trace_of(ours, 21), trace_of(theirs, 21), strict=True):
        assert rates == pytest.approx(expected)


def test_every_group_follows_the_factor():
    scheduler = WarmupCosineLR(optimizer_with_two_groups(), 3, 12, min_lr=0.01)

    for step, (first, second) in enumerate(trace_of(scheduler, 12)):
        assert first == pytest.approx(warmup_cosine_factor(step, 3, 12, min_factor=0.01))
        assert second == pytest.approx(0.1 * warmup_cosine_factor(step, 3, 12, min_factor=0.1))
    assert scheduler.get_last_lr() == pytest.approx([0.01, 0.01])


@pytest.mark.parametrize("options", [{}, {"restart_period": 2, "period_growth": 2}])
@pytest.mark.parametrize("with_optimizer", [True, False])
@pytest.mark.parametrize("num_done", range(13))
def test_a_resumed_run_continues_the_trace(options, with_optimizer, num_done):
    expected = trace_of(WarmupCosineLR(optimizer_with_two_groups(), 3, 12, **options), 12)
    interrupted = WarmupCosineLR(optimizer_with_two_groups(), 3, 12, **options)
    trace_of(interrupted, num_done)
    optimizer_state = copy.deepcopy(interrupted.optimizer.state_dict())

    resumed = WarmupCosineLR(optimizer_with_two_groups(), 3, 12, **options)
    if with_optimizer:  # its state holds the rates, too
        resumed.optimizer.load_state_dict(optimizer_state)
    resumed.load_state_dict(interrupted.state_dict())

    assert resumed.get_last_lr() == interrupted.get_last_lr()
    assert trace_of(resumed, 12 - num_done) == expected[num_done:]


def test_refuses_to_run_past_its_end():
    scheduler = WarmupCosineLR(optimizer_with_two_groups(), 1, 4)
    trace_of(scheduler, 4)
    scheduler.optimizer.step()
    message = (
        r"WarmupCosineLR: step\(\) was called more than total_steps = 4 times\. Count total_st"
    )
    with pytest.raises(ValueError, match=message):
        scheduler.step()


def test_repr_is_one_line():
    scheduler = WarmupCosineLR(optimizer_with_two_groups(), 1, 4, min_lr=0.01)
    trace_of(scheduler, 3)
    assert repr(scheduler) == (
        "WarmupCosineLR(warmup_steps=1, total_steps=4, min_lr=0.01, start_factor=0.0, "
        "restart_period=None, period_growth=1, step=3)"
    )


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((3, 3), {}, "total_steps above warmup_steps = 3, got 3"),
        ((-1, 3), {}, "warmup_steps as a whole number >= 0, got -1"),
        ((2.5, 10), {}, r"warmup_steps as a whole number >= 0, got 2\.5"),
        ((1, 10.5), {}, r"total_steps as a whole number >= 1, got 10\.5"),
        ((1, None), {}, "total_steps as a whole number >= 1, got None"),
        ((1, 3), {"start_factor": -1}, r"start_factor in \[0, 1\], got -1"),
        ((1, 3), {"start_factor": "0"}, "start_factor as a number, got '0'"),
        ((1, 3), {"restart_period": 0}, "restart_period as a whole number >= 1, got 0"),
        ((2, 9), {"period_growth": 0}, "period_growth as a whole number >= 1, got 0"),
    ],
)
def test_wrong_arguments(arguments, options, message):
    with pytest.raises(ValueError, match="WarmupCosineLR: expected " + message):
        WarmupCosineLR(optimizer_with_two_groups(), *arguments, **options)
    with pytest.raises(ValueError, match="warmup_cosine_factor: expected " + message):
        warmup_cosine_factor(1, *arguments, **options)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("min_lr", "message"),
    [
        (0.5, r"min_lr not above the peak rate 0\.1 of every group, got 0\.5"),
        (-1.0, "min_lr >= 0, got -1"),
        ("0", "min_lr as a number, got '0'"),
    ],
)
def test_wrong_min_lr(min_lr, message):
    with pytest.raises(ValueError, match="WarmupCosineLR: expected " + message):
        WarmupCosineLR(optimizer_with_two_groups(), 1, 3, min_lr=min_lr)


def test_wrong_step_and_min_factor():
    with pytest.raises(ValueError, match=r"step in \[0, total_steps = 10\], got 11"):
        warmup_cosine_factor(11, 2, 10)
    with pytest.raises(ValueError, match=r"min_factor in \[0, 1\], got 2"):
        warmup_cosine_factor(1, 2, 10, min_factor=2)


def test_is_stepped_by_accelerate():
    accelerate = pytest.importorskip("accelerate")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = WarmupCosineLR(optimizer, warmup_steps=2, total_steps=6)
    optimizer, scheduler = accelerate.Accelerator(cpu=True).prepare(optimizer, scheduler)

    rates = []
    for _ in range(6):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()

    assert rates == [warmup_cosine_factor(step, 2, 6) for step in range(6)]

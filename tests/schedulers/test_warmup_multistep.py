import copy
import itertools
import math
from bisect import bisect_right

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from clipreid_kit.schedulers import WarmupMultiStepLR, warmup_multistep_factor

ROUNDING = 1e-12


def factors_of(warmup_steps, milestones, num_steps=33, **options):
    return [
        warmup_multistep_factor(step, warmup_steps, milestones, **options)
        for step in range(num_steps)
    ]


@st.composite
def schedules(draw):
    """Warm-up steps, milestones, gamma and start factor."""
    warmup_steps = draw(st.integers(0, 8))
    milestones = sorted(draw(st.sets(st.integers(max(warmup_steps, 1), 30), max_size=4)))
    return warmup_steps, milestones, draw(st.floats(0, 1)), draw(st.floats(0, 1))


@given(schedules())
@example((1, [], 1.0, 1e-15))  # s + (1 - s) is not exactly 1
def test_rises_through_the_warmup_to_the_peak(schedule):
    warmup_steps, milestones, gamma, start_factor = schedule
    factors = factors_of(warmup_steps, milestones, gamma=gamma, start_factor=start_factor)

    for earlier, later in itertools.pairwise(factors[:warmup_steps]):
        assert later >= earlier - ROUNDING
    if warmup_steps > 0:
        assert factors[warmup_steps - 1] == pytest.approx(1)


@given(schedules())
@example((1, [], 1.0, 1e-15))
def test_falls_by_gamma_at_each_milestone(schedule):
    warmup_steps, milestones, gamma, start_factor = schedule
    factors = factors_of(warmup_steps, milestones, gamma=gamma, start_factor=start_factor)

    first = max(warmup_steps, 1)
    for step in range(first, len(factors)):
        before = 1.0 if step == warmup_steps else factors[step - 1]
        expected = before * gamma if step in milestones else before
        assert factors[step] == pytest.approx(expected, abs=ROUNDING)
    assert factors[-1] == pytest.approx(gamma ** len(milestones), abs=ROUNDING)


@pytest.mark.parametrize(
    ("start_factor", "milestones", "num_epochs"), [(0.1, [30, 50], 60), (0.01, [40, 70], 120)]
)
def test_equals_clip_reid_with_milestones_one_earlier(start_factor, milestones, num_epochs):
    ours = [milestone - 1 for milestone in milestones]

    # CLIP-ReID steps its scheduler before each epoch, so its count begins at 1.
    for epoch in range(1, num_epochs + 1):
        warmup = 1.0
        if epoch < 10:
            warmup = start_factor * (1 - epoch / 10) + epoch / 10
        expected = warmup * 0.1 ** bisect_right(milestones, epoch)

        factor = warmup_multistep_factor(epoch - 1, 10, ours, start_factor=start_factor)

        assert factor == pytest.approx(expected)


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


def test_every_group_follows_the_factor():
    scheduler = WarmupMultiStepLR(optimizer_with_two_groups(), 3, [5, 9], 0.5, start_factor=0.1)

    for step, (first, second) in enumerate(trace_of(scheduler, 12)):
        factor = warmup_multistep_factor(step, 3, [5, 9], gamma=0.5, start_factor=0.1)
        assert first == pytest.approx(factor)
        assert second == pytest.approx(0.1 * factor)


def test_without_warmup_it_equals_the_schedule_of_torch():
    ours = WarmupMultiStepLR(optimizer_with_two_groups(), 0, [4, 6])
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer_with_two_groups(), [4, 6])

    for rates, expected in zip(trace_of(ours, 10), trace_of(theirs, 10), strict=True):
        assert rates == pytest.approx(expected)


def scheduler_of_ten_steps():
    return WarmupMultiStepLR(optimizer_with_two_groups(), 3, [4, 7], total_steps=10)


@pytest.mark.parametrize("with_optimizer", [True, False])
@pytest.mark.parametrize("num_done", range(11))
def test_a_resumed_run_continues_the_trace(with_optimizer, num_done):
    expected = trace_of(scheduler_of_ten_steps(), 10)
    interrupted = scheduler_of_ten_steps()
    trace_of(interrupted, num_done)
    optimizer_state = copy.deepcopy(interrupted.optimizer.state_dict())

    resumed = scheduler_of_ten_steps()
    if with_optimizer:  # its state holds the rates, too
        resumed.optimizer.load_state_dict(optimizer_state)
    resumed.load_state_dict(interrupted.state_dict())

    assert resumed.get_last_lr() == interrupted.get_last_lr()
    assert trace_of(resumed, 10 - num_done) == expected[num_done:]


def test_ends_with_its_last_step():
    scheduler = scheduler_of_ten_steps()
    trace_of(scheduler, 10)
    scheduler.optimizer.step()
    with pytest.raises(ValueError, match=r"WarmupMultiStepLR: step\(\) was called more than tota"):
        scheduler.step()


def test_does_not_end_without_total_steps():
    scheduler = WarmupMultiStepLR(optimizer_with_two_groups(), 1, [2])
    trace_of(scheduler, 100)
    assert scheduler.get_last_lr()[0] == pytest.approx(0.1)


def test_repr_is_one_line():
    scheduler = WarmupMultiStepLR(optimizer_with_two_groups(), 1, [2, 4])
    trace_of(scheduler, 3)
    assert repr(scheduler) == (
        "WarmupMultiStepLR(warmup_steps=1, milestones=(2, 4), gamma=0.1, start_factor=0.0, "
        "total_steps=None, step=3)"
    )


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((-1, [3]), {}, "warmup_steps as a whole number >= 0, got -1"),
        (("1", [3]), {}, "warmup_steps as a whole number >= 0, got '1'"),
        ((1, [3, 3]), {}, r"milestones that rise, got \[3, 3\]"),
        ((1, [5, 3]), {}, r"milestones that rise, got \[5, 3\]"),
        ((1, [0]), {}, "milestones as a whole number >= 1, got 0"),
        ((1, [2.5]), {}, r"milestones as a whole number >= 1, got 2\.5"),
        ((4, [3]), {}, r"milestones not below warmup_steps = 4, got \[3\]"),
        ((1, [3]), {"gamma": 1.5}, r"gamma in \[0, 1\], got 1\.5"),
        ((1, [3]), {"gamma": math.nan}, r"gamma in \[0, 1\], got nan"),
        ((1, [3]), {"gamma": None}, "gamma as a number, got None"),
        ((1, [3]), {"start_factor": 2.0}, r"start_factor in \[0, 1\], got 2\.0"),
        (
            (1, [3]),
            {"total_steps": 3},
            "total_steps above warmup_steps and every milestone, 3, got 3. Count all of them",
        ),
        ((3, []), {"total_steps": 3}, "total_steps above warmup_steps and every milestone, 3, got"),
    ],
)
def test_wrong_arguments(arguments, options, message):
    with pytest.raises(ValueError, match="WarmupMultiStepLR: expected " + message):
        WarmupMultiStepLR(optimizer_with_two_groups(), *arguments, **options)
    with pytest.raises(ValueError, match="warmup_multistep_factor: expected " + message):
        warmup_multistep_factor(0, *arguments, **options)


@pytest.mark.parametrize(
    ("step", "total_steps", "message"),
    [
        (5, 4, r"step in \[0, total_steps = 4\], got 5"),
        (-1, None, "step as a whole number >= 0, got -1"),
    ],
)
def test_steps_outside_the_schedule(step, total_steps, message):
    with pytest.raises(ValueError, match="warmup_multistep_factor: expected " + message):
        warmup_multistep_factor(step, 1, [2], total_steps=total_steps)


@pytest.mark.parametrize("total_steps", [None, 6])
def test_is_stepped_by_accelerate(total_steps):
    accelerate = pytest.importorskip("accelerate")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = WarmupMultiStepLR(optimizer, 2, [4], total_steps=total_steps)
    optimizer, scheduler = accelerate.Accelerator(cpu=True).prepare(optimizer, scheduler)

    rates = []
    for _ in range(6):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()

    assert rates == pytest.approx([0.2, 0.4, 0.4, 0.4, 0.04, 0.04])


def test_an_older_state_without_an_end_is_loaded():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = WarmupMultiStepLR(optimizer, 2, [4])
    scheduler.load_state_dict({**scheduler.state_dict(), "last_epoch": 4, "total_steps": None})

    assert scheduler.total_steps == math.inf
    assert scheduler.get_last_lr() == pytest.approx([0.04])

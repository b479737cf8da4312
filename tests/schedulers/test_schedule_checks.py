import math
import warnings
from types import SimpleNamespace

import pytest
import torch

from clipreid_kit import WarmupCosineLR, WarmupMultiStepLR
from clipreid_kit.schedulers._schedule_checks import (
    check_not_past_the_end,
    check_step,
    check_unit_interval,
)


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_numbers_in_the_unit_interval(value):
    check_unit_interval("owner", "gamma", value)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-0.1, r"gamma in \[0, 1\], got -0\.1"),
        (1.5, r"gamma in \[0, 1\], got 1\.5"),
        (math.nan, r"gamma in \[0, 1\], got nan"),
        ("0.5", "gamma as a number, got '0.5'"),
        (None, "gamma as a number, got None"),
    ],
)
def test_numbers_outside_the_unit_interval(value, message):
    with pytest.raises(ValueError, match="owner: expected " + message):
        check_unit_interval("owner", "gamma", value)


def test_steps_of_a_schedule():
    check_step("owner", 0, 4)
    check_step("owner", 4, 4)
    check_step("owner", 100, None)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("step", "total_steps", "message"),
    [
        (5, 4, r"step in \[0, total_steps = 4\], got 5\. Count total_steps in the unit in which"),
        (-1, 4, r"step in \[0, total_steps = 4\], got -1"),
        (-1, None, "step as a whole number >= 0, got -1"),
        ("1", 4, "step as a number, got '1'"),
        ("1", None, "step as a whole number >= 0, got '1'"),
    ],
)
def test_steps_outside_a_schedule(step, total_steps, message):
    with pytest.raises(ValueError, match="owner: expected " + message):
        check_step("owner", step, total_steps)


def test_past_the_end():
    check_not_past_the_end("owner", 4, 4)
    check_not_past_the_end("owner", 100, None)
    message = r"owner: step\(\) was called more than total_steps = 4 times\. Count total_steps"
    with pytest.raises(ValueError, match=message):
        check_not_past_the_end("owner", 5, 4)


def cosine(optimizer, total_steps):
    return WarmupCosineLR(optimizer, 0, total_steps)


def multistep(optimizer, total_steps):
    return WarmupMultiStepLR(optimizer, 0, [total_steps // 2], total_steps=total_steps)


def prepared_rates(monkeypatch, build, total_steps, *, num_processes=1, num_steps=3, **options):
    """Rates of a schedule that Accelerate prepared on one of several processes."""
    scheduler = pytest.importorskip("accelerate.scheduler")
    accelerator = pytest.importorskip("accelerate").Accelerator(cpu=True)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    prepared, _ = accelerator.prepare(optimizer, torch.nn.Linear(1, 1))
    wrapped = scheduler.AcceleratedScheduler(build(optimizer, total_steps), prepared, **options)

    state = SimpleNamespace(num_processes=num_processes)
    monkeypatch.setattr(scheduler, "AcceleratorState", lambda: state)
    rates = []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        prepared.step()
        wrapped.step()
    return rates


@pytest.mark.unhooked
@pytest.mark.parametrize("build", [cosine, multistep])
def test_a_schedule_that_accelerate_steps_for_each_process_warns_once(monkeypatch, build):
    expected = prepared_rates(monkeypatch, build, 4)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        rates = prepared_rates(monkeypatch, build, 8, num_processes=2)

    assert rates == pytest.approx(expected)
    assert len(caught) == 1
    assert str(caught[0].message).startswith(
        f"{type(build(*schedule_arguments())).__name__}: accelerator.prepare makes 2 steps of the "
        "schedule for each step of the optimiser, one for each process. Count total_steps, "
        "warmup_steps and milestones in steps of the optimiser times 2, which is epochs x "
        "len(loader) before prepare; or do not prepare the schedule"
    )


def schedule_arguments():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), 4


@pytest.mark.parametrize("options", [{"split_batches": True}, {"step_with_optimizer": False}])
def test_a_prepared_schedule_that_is_stepped_once_does_not_warn(monkeypatch, options):
    """Warnings are errors in this suite."""
    expected = prepared_rates(monkeypatch, cosine, 4)
    assert prepared_rates(monkeypatch, cosine, 4, num_processes=2, **options) == expected


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("call", "owner"),
    [
        (lambda wrong: WarmupCosineLR(wrong, 0, 10), "WarmupCosineLR"),
        (lambda wrong: WarmupMultiStepLR(wrong, 0, [4]), "WarmupMultiStepLR"),
    ],
)
@pytest.mark.parametrize("wrong", [None, 0.1, [torch.zeros(1)], torch.nn.Linear(1, 1)])
def test_what_is_no_optimizer_is_explained(call, owner, wrong):
    message = rf"^{owner}: expected an optimizer of torch.optim, got {type(wrong).__name__}"
    with pytest.raises(ValueError, match=message):
        call(wrong)

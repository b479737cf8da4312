import math

import pytest
import torch

from clipreid_kit.schedulers import WarmupCosineLR, WarmupMultiStepLR
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

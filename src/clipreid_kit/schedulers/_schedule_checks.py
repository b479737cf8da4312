"""Checks that the learning-rate schedules share."""

import sys
import warnings

from torch.optim import Optimizer

from clipreid_kit._callers import find_caller
from clipreid_kit._checks import check_integer, check_number, fail

_UNIT = "Count total_steps in the unit in which you call step(): epochs, or epochs x batches."


def check_optimizer(owner: str, optimizer: object) -> None:
    """Require an optimiser of torch."""
    if not isinstance(optimizer, Optimizer):
        expected = "an optimizer of torch.optim"
        raise fail(owner, expected, type(optimizer).__name__, "Pass the optimizer first.")


def check_unit_interval(owner: str, name: str, value: float) -> None:
    """Require a number in [0, 1]."""
    check_number(owner, name, value)
    if not 0 <= value <= 1:
        raise fail(owner, f"{name} in [0, 1]", value)


def check_step(owner: str, step: int, total_steps: int | None) -> None:
    """Require a step of the schedule."""
    if total_steps is None:
        check_integer(owner, "step", step, 0)
        return

    check_number(owner, "step", step)
    if not 0 <= step <= total_steps:
        raise fail(owner, f"step in [0, total_steps = {total_steps}]", step, _UNIT)


def check_not_past_the_end(owner: str, step: int, total_steps: int | None) -> None:
    """Refuse a step beyond the last one, so that no rate follows the final one."""
    if total_steps is not None and step > total_steps:
        raise ValueError(
            f"{owner}: step() was called more than total_steps = {total_steps} times. {_UNIT}"
        )


def warn_if_stepped_several_times(owner: str) -> None:
    """Warn once if Accelerate steps a schedule once for each process, at every optimiser step."""
    prepared = find_caller("accelerate", "AcceleratedScheduler")
    if prepared is None:
        return

    is_stepped_once = getattr(prepared, "split_batches", False) or not getattr(
        prepared, "step_with_optimizer", True
    )
    num_processes = _num_processes_of_accelerate()
    if is_stepped_once or num_processes == 1:
        return

    warnings.warn(
        f"{owner}: accelerator.prepare makes {num_processes} steps of the schedule for each step "
        f"of the optimiser, one for each process. Count total_steps, warmup_steps and milestones "
        f"in steps of the optimiser times {num_processes}, which is epochs x len(loader) before "
        "prepare; or do not prepare the schedule, and call its step() yourself.",
        UserWarning,
        stacklevel=3,
    )


def _num_processes_of_accelerate() -> int:
    """Number of processes by which Accelerate multiplies the steps; it is loaded already."""
    state = getattr(sys.modules.get("accelerate.scheduler"), "AcceleratorState", None)
    return 1 if state is None else int(state().num_processes)

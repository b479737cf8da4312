"""What the schedules share: the warm-up, the checks, and rates that follow from the step alone."""

from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from clipreid_kit._checks import check_integer, fail


def warmup_factor(step: int, warmup_steps: int, start_factor: float) -> float:
    """Share of the peak at a step of the warm-up: on a line, 1 at its last step."""
    return start_factor + (1 - start_factor) * (step + 1) / warmup_steps


def check_share(owner: str, name: str, value: float) -> None:
    """Require a number in [0, 1]."""
    if not 0 <= value <= 1:
        raise fail(owner, f"{name} in [0, 1]", value)


def check_step(owner: str, step: int, total_steps: int | None) -> None:
    """Require a step of the schedule."""
    if total_steps is None:
        check_integer(owner, "step", step, 0)
    elif not 0 <= step <= total_steps:
        raise fail(
            owner,
            f"step in [0, total_steps = {total_steps}]",
            step,
            "Count total_steps in the unit in which you step: epochs, or epochs x batches.",
        )


def check_not_past_the_end(owner: str, step: int, total_steps: int | None) -> None:
    """Refuse a step beyond the last: a rate that was meant to be final is never followed by another."""
    if total_steps is not None and step > total_steps:
        raise ValueError(
            f"{owner}: expected at most total_steps = {total_steps} steps, got one more. "
            "Count total_steps in the unit in which you call step(): epochs, or epochs x batches."
        )


def set_rates(scheduler: LRScheduler) -> None:
    """Give the optimiser the rates of the scheduler's present step, whatever it had."""
    rates = [float(rate) for rate in scheduler.get_lr()]
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
    scheduler._last_lr = list(rates)  # noqa: SLF001 (what get_last_lr returns; torch has no public way to set it)

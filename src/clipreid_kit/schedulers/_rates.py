"""Warm-up factor of the schedules, and setting the rates of an optimiser."""

from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler


def warmup_factor(step: int, warmup_steps: int, start_factor: float) -> float:
    """Fraction of the peak rate at a step of a linear warm-up: 1 at its last step."""
    return start_factor + (1 - start_factor) * (step + 1) / warmup_steps


def set_optimizer_rates(scheduler: LRScheduler) -> None:
    """Set the rates of the scheduler's present step in its optimiser, and in ``get_last_lr``."""
    rates = [float(rate) for rate in scheduler.get_lr()]

    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate

    scheduler._last_lr = list(rates)  # noqa: SLF001 (torch has no public way to set it)

"""Learning rates with a linear warm-up and a cosine decay, with or without restarts."""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from clipreid_kit._checks import check_at_least, check_integer, fail
from clipreid_kit.schedulers._rates import set_optimizer_rates, warmup_factor
from clipreid_kit.schedulers._schedule_checks import (
    check_not_past_the_end,
    check_optimizer,
    check_step,
    check_unit_interval,
    warn_if_stepped_several_times,
)


def warmup_cosine_factor(
    step: int,
    warmup_steps: int,
    total_steps: int,
    *,
    start_factor: float = 0.0,
    min_factor: float = 0.0,
    restart_period: int | None = None,
    period_growth: int = 1,
) -> float:
    r"""Fraction of the peak learning rate at one step.

    Use it to evaluate or plot the schedule, or as a weight of a loss; :class:`WarmupCosineLR` sets
    it in an optimiser. The factor rises linearly through the warm-up, is 1 at its last step, and
    falls along half a cosine to ``min_factor`` at ``total_steps``:

    .. math::
        f(t) = \begin{cases}
            s + (1 - s)\,\frac{t + 1}{W} & t < W \\
            m + \frac{1 - m}{2} \big(1 + \cos \pi \frac{t - W}{T - W}\big) & W \le t \le T
        \end{cases}

    With warm restarts the fraction :math:`(t - W) / (T - W)` is that of the current period, so the
    factor falls towards ``min_factor`` through each period and begins the next one at 1.

    Args:
        step: :math:`t`, 0 at the first optimiser step (or epoch), at most ``total_steps``.
        warmup_steps: :math:`W \ge 0`; 0 for no warm-up.
        total_steps: :math:`T > W`, all steps of the run including the warm-up, in the unit of
            ``step``.
        start_factor: :math:`s` in [0, 1]: the fraction that the warm-up rises from.
        min_factor: :math:`m` in [0, 1]: the fraction at the end.
        restart_period: Steps of the first period after the warm-up, at least 1 (SGDR's
            :math:`T_0`). ``None`` for one period to the end. ``total_steps`` may cut the last
            period short; where it coincides with the end of a period, the last value is
            ``min_factor``, not that of a restart.
        period_growth: How many times longer each period is than the one before (SGDR's
            :math:`T_{mult}`), at least 1.

    Returns:
        A number in [0, 1]; above 0 at the first step, so that no step is wasted.

    Raises:
        ValueError: If ``step`` is beyond the schedule, a count is not a whole number, or a number
            is out of range.

    Example:
        >>> [round(warmup_cosine_factor(t, 2, 6), 2) for t in range(7)]
        [0.5, 1.0, 1.0, 0.85, 0.5, 0.15, 0.0]
        >>> restarts = {"restart_period": 2, "period_growth": 2}
        >>> [round(warmup_cosine_factor(t, 0, 6, **restarts), 2) for t in range(7)]
        [1.0, 0.5, 1.0, 0.85, 0.5, 0.15, 0.0]

    References:
        Loshchilov and Hutter, SGDR, ICLR 2017, eq. 5.
    """
    owner = "warmup_cosine_factor"
    _check_schedule(owner, warmup_steps, total_steps, start_factor, restart_period, period_growth)
    check_unit_interval(owner, "min_factor", min_factor)
    check_step(owner, step, total_steps)

    if step < warmup_steps:
        return warmup_factor(step, warmup_steps, start_factor)

    done = step - warmup_steps
    period = total_steps - warmup_steps
    if restart_period is not None:
        done, period = _in_period(done, restart_period, period_growth, is_last=step == total_steps)
    return min_factor + (1 - min_factor) * 0.5 * (1 + math.cos(math.pi * done / period))


def _in_period(done: int, period: int, growth: int, *, is_last: bool) -> tuple[int, int]:
    """Steps done of the current period, and its length; the last step begins no new period."""
    if growth == 1:
        within = done % period
        ends_a_period = is_last and done > 0 and within == 0
        return (period if ends_a_period else within), period

    while done > period or (done == period and not is_last):
        done -= period
        period *= growth
    return done, period


def _check_schedule(
    owner: str,
    warmup_steps: int,
    total_steps: int,
    start_factor: float,
    restart_period: int | None,
    period_growth: int,
) -> None:
    """Raise ValueError if a number of the schedule is out of its range."""
    check_integer(owner, "warmup_steps", warmup_steps, 0)
    check_integer(owner, "total_steps", total_steps, 1)
    if total_steps <= warmup_steps:
        raise fail(owner, f"total_steps above warmup_steps = {warmup_steps}", total_steps)

    check_unit_interval(owner, "start_factor", start_factor)
    if restart_period is not None:
        check_integer(owner, "restart_period", restart_period, 1)
    check_integer(owner, "period_growth", period_growth, 1)


class WarmupCosineLR(LRScheduler):
    """Multiply the base rate of every parameter group by :func:`warmup_cosine_factor`.

    The rate is a function of the step alone, so a resumed run and a direct evaluation agree. Call
    ``step()`` after each optimiser step; or after each epoch, with all numbers in epochs.

    Args:
        optimizer: Optimiser; the ``lr`` of its groups are the peak rates.
        warmup_steps: Steps of the warm-up, at least 0.
        total_steps: All steps of the run including the warm-up, above ``warmup_steps``.
        min_lr: Rate that every group reaches at ``total_steps``, in the unit of ``lr``; not above
            any peak rate.
        start_factor: Fraction of the peak that the warm-up rises from, in [0, 1].
        restart_period: Steps from the end of the warm-up to the first warm restart. ``None`` for no
            restarts.
        period_growth: How many times longer each period is than the one before, at least 1.

    Warns:
        UserWarning: Once, in ``step()``, if Accelerate prepared the schedule on several processes:
            it then makes that many steps for each step of the optimiser.

    Raises:
        ValueError: If a number is out of its range; in ``step()``, if the schedule has ended,
            because the cosine would rise again.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
        >>> scheduler = WarmupCosineLR(optimizer, warmup_steps=2, total_steps=6)
        >>> rates = []
        >>> for _ in range(6):
        ...     rates.append(round(scheduler.get_last_lr()[0], 2))
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates
        [0.2, 0.4, 0.4, 0.34, 0.2, 0.06]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        total_steps: int,
        min_lr: float = 0.0,
        *,
        start_factor: float = 0.0,
        restart_period: int | None = None,
        period_growth: int = 1,
    ) -> None:
        owner = "WarmupCosineLR"
        check_optimizer(owner, optimizer)
        _check_schedule(
            owner, warmup_steps, total_steps, start_factor, restart_period, period_growth
        )
        check_at_least(owner, "min_lr", min_lr, 0)
        for group in optimizer.param_groups:
            peak = float(group.get("initial_lr", group["lr"]))
            if min_lr > peak:
                raise fail(owner, f"min_lr not above the peak rate {peak:g} of every group", min_lr)

        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.min_lr = min_lr
        self.start_factor = start_factor
        self.restart_period = restart_period
        self.period_growth = period_growth
        super().__init__(optimizer)

    def __repr__(self) -> str:
        """Options and the present step, on one line."""
        return (
            f"WarmupCosineLR(warmup_steps={self.warmup_steps}, total_steps={self.total_steps}, "
            f"min_lr={self.min_lr}, start_factor={self.start_factor}, "
            f"restart_period={self.restart_period}, period_growth={self.period_growth}, "
            f"step={self.last_epoch})"
        )

    def get_lr(self) -> list[float]:  # type: ignore[override]  # newer torch also allows tensors
        """Return the rates at the present step, one for each parameter group."""
        check_not_past_the_end("WarmupCosineLR", self.last_epoch, self.total_steps)
        return [float(base) * self._factor(float(base)) for base in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        """Advance by one step, and set the rates of the parameter groups."""
        warn_if_stepped_several_times("WarmupCosineLR")
        super().step(epoch)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, and set its learning rates in the optimiser as well."""
        super().load_state_dict(state_dict)
        set_optimizer_rates(self)

    def _factor(self, peak: float) -> float:
        """Fraction of the peak rate of a group at the present step."""
        return warmup_cosine_factor(
            self.last_epoch,
            self.warmup_steps,
            self.total_steps,
            start_factor=self.start_factor,
            min_factor=self.min_lr / peak if peak > 0 else 0.0,
            restart_period=self.restart_period,
            period_growth=self.period_growth,
        )

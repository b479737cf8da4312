"""Linear warm-up, then half a cosine down to a floor, once or in periods."""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from clipreid_kit._checks import check_at_least, check_integer, fail
from clipreid_kit.schedulers._closed_form import (
    check_not_past_the_end,
    check_share,
    check_step,
    set_rates,
    warmup_factor,
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
    r"""Share of the peak learning rate that is used at one step.

    Rises on a line through the warm-up, is 1 at its last step, and falls on half a cosine to ``min_factor`` at
    ``total_steps``:

    .. math::
        f(t) = \begin{cases}
            s + (1 - s)\,\frac{t + 1}{W} & t < W \\
            m + \frac{1 - m}{2} \big(1 + \cos \pi \frac{t - W}{T - W}\big) & W \le t \le T
        \end{cases}

    With warm restarts the fraction is the share of the present period instead, so the factor falls towards
    ``min_factor`` through each period and begins the next one at 1.

    Args:
        step: :math:`t`, 0 at the first optimiser step (or epoch), at most ``total_steps``.
        warmup_steps: :math:`W \ge 0`; 0 for no warm-up.
        total_steps: :math:`T > W`, all steps of the run, warm-up included, in the unit of ``step``.
        start_factor: :math:`s` in [0, 1]: the share from which the warm-up rises.
        min_factor: :math:`m` in [0, 1]: the share at the end.
        restart_period: Steps of the first period after the warm-up, at least 1 (SGDR's :math:`T_0`); ``None`` for one
            period to the end. ``total_steps`` may cut the last period short; where it ends one, the last value is
            ``min_factor``, and not that of a restart.
        period_growth: How many times longer each period is than the one before (SGDR's :math:`T_{mult}`), at least 1.

    Returns:
        A number in [0, 1]; above 0 at the first step, so that no step is wasted.

    Raises:
        ValueError: If ``step`` lies beyond the schedule, a count is not a whole number, or a number is out of range.

    Example:
        >>> [round(warmup_cosine_factor(t, 2, 6), 2) for t in range(7)]
        [0.5, 1.0, 1.0, 0.85, 0.5, 0.15, 0.0]
        >>> [round(warmup_cosine_factor(t, 0, 6, restart_period=2, period_growth=2), 2) for t in range(7)]
        [1.0, 0.5, 1.0, 0.85, 0.5, 0.15, 0.0]

    References:
        Loshchilov and Hutter, SGDR, ICLR 2017, eq. 5.
    """
    _check_schedule(
        "warmup_cosine_factor",
        warmup_steps,
        total_steps,
        start_factor,
        restart_period,
        period_growth,
    )
    check_share("warmup_cosine_factor", "min_factor", min_factor)
    check_step("warmup_cosine_factor", step, total_steps)
    if step < warmup_steps:
        return warmup_factor(step, warmup_steps, start_factor)
    done, period = step - warmup_steps, total_steps - warmup_steps
    if restart_period is not None:
        done, period = _in_period(done, restart_period, period_growth, is_last=step == total_steps)
    return min_factor + (1 - min_factor) * 0.5 * (1 + math.cos(math.pi * done / period))


def _in_period(done: int, period: int, growth: int, *, is_last: bool) -> tuple[int, int]:
    """Steps done of the present period, and its length; the last step of all ends a period and begins none."""
    if growth == 1:
        return (period if is_last and done and done % period == 0 else done % period), period
    while done > period or (done == period and not is_last):
        done, period = done - period, period * growth
    return done, period


def _check_schedule(
    owner: str,
    warmup_steps: int,
    total_steps: int,
    start_factor: float,
    restart_period: int | None,
    period_growth: int,
) -> None:
    check_integer(owner, "warmup_steps", warmup_steps, 0)
    check_integer(owner, "total_steps", total_steps, 1)
    if total_steps <= warmup_steps:
        raise fail(owner, "total_steps above warmup_steps", f"{total_steps} and {warmup_steps}")
    check_share(owner, "start_factor", start_factor)
    if restart_period is not None:
        check_integer(owner, "restart_period", restart_period, 1)
    check_integer(owner, "period_growth", period_growth, 1)


class WarmupCosineLR(LRScheduler):
    """Set every parameter group's rate to its own base rate times :func:`warmup_cosine_factor`.

    The rate is a function of the step alone, so a resumed run and a direct evaluation agree. Call ``step()`` after
    each optimiser step (or each epoch: then count all numbers in epochs).

    Args:
        optimizer: Its groups' ``lr`` are the peak rates.
        warmup_steps: At least 0.
        total_steps: All steps of the run, above ``warmup_steps``.
        min_lr: Floor that every group reaches at ``total_steps``, in the unit of ``lr``; not above any peak rate.
        start_factor: Share of the peak from which the warm-up rises, in [0, 1].
        restart_period: Steps from the end of the warm-up to the first warm restart; ``None`` for none.
        period_growth: How many times longer each period is than the one before.

    Raises:
        ValueError: If the numbers are out of range; in ``step()``, when the schedule is stepped past its end, so that
            a rate that was meant to be final is never followed by another.

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
        _check_schedule(
            "WarmupCosineLR", warmup_steps, total_steps, start_factor, restart_period, period_growth
        )
        check_at_least("WarmupCosineLR", "min_lr", min_lr, 0)
        for group in optimizer.param_groups:
            peak = float(group.get("initial_lr", group["lr"]))
            if min_lr > peak:
                raise fail(
                    "WarmupCosineLR",
                    f"min_lr not above the peak rate {peak:g} of every group",
                    min_lr,
                )
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.min_lr = min_lr
        self.start_factor = start_factor
        self.restart_period = restart_period
        self.period_growth = period_growth
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]  # newer torch also allows tensors
        """Rates at the present step, one for each parameter group."""
        check_not_past_the_end("WarmupCosineLR", self.last_epoch, self.total_steps)
        return [
            base
            * warmup_cosine_factor(
                self.last_epoch,
                self.warmup_steps,
                self.total_steps,
                start_factor=self.start_factor,
                min_factor=self.min_lr / base if base > 0 else 0.0,
                restart_period=self.restart_period,
                period_growth=self.period_growth,
            )
            for base in (float(rate) for rate in self.base_lrs)
        ]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state, and give the optimiser its rates, also where the optimiser's own state is not loaded."""
        super().load_state_dict(state_dict)
        set_rates(self)

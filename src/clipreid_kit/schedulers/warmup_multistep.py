"""Learning rates with a linear warm-up and a step decay at milestones."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.schedulers._rates import set_optimizer_rates, warmup_factor
from clipreid_kit.schedulers._schedule_checks import (
    check_not_past_the_end,
    check_optimizer,
    check_step,
    check_unit_interval,
    warn_if_stepped_several_times,
)


def warmup_multistep_factor(
    step: int,
    warmup_steps: int,
    milestones: Sequence[int],
    *,
    gamma: float = 0.1,
    start_factor: float = 0.0,
    total_steps: int | None = None,
) -> float:
    r"""Fraction of the peak learning rate at one step.

    Use it to evaluate or plot the schedule; :class:`WarmupMultiStepLR` sets it in an optimiser. The
    factor rises linearly through the warm-up, is 1 at its last step, and is multiplied by ``gamma``
    at each milestone:

    .. math::
        f(t) = \begin{cases}
            s + (1 - s)\,\frac{t + 1}{W} & t < W \\
            \gamma^{\,|\{m : m \le t\}|} & t \ge W
        \end{cases}

    Args:
        step: :math:`t`, 0 at the first optimiser step (or epoch).
        warmup_steps: :math:`W \ge 0`; 0 for no warm-up.
        milestones: Numbers of completed steps after which the rate falls: rising, at least 1, none
            below ``warmup_steps``. Empty for a constant rate after the warm-up.
        gamma: Factor at each milestone, in [0, 1].
        start_factor: :math:`s` in [0, 1]: the fraction that the warm-up rises from. CLIP-ReID: 0.1
            (ViT), 0.01 (CNN).
        total_steps: All steps of the run, above ``warmup_steps`` and every milestone. ``None`` for
            a schedule without an end.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: If ``step`` is beyond the schedule, milestones do not rise, or a number is out
            of range.

    Example:
        >>> [round(warmup_multistep_factor(t, 2, [4, 6], start_factor=0.1), 3) for t in range(8)]
        [0.55, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]

    Note:
        CLIP-ReID steps its scheduler before each epoch, so its count begins at 1: its warm-up is
        equal to this one, and its milestones 30 and 50 are 29 and 49 here.
    """
    owner = "warmup_multistep_factor"
    _check_schedule(owner, warmup_steps, milestones, gamma, start_factor, total_steps)
    check_step(owner, step, total_steps)

    if step < warmup_steps:
        return warmup_factor(step, warmup_steps, start_factor)
    return float(gamma ** bisect_right(milestones, step))


def _check_schedule(
    owner: str,
    warmup_steps: int,
    milestones: Sequence[int],
    gamma: float,
    start_factor: float,
    total_steps: int | None,
) -> None:
    """Raise ValueError if a number of the schedule is out of its range."""
    check_integer(owner, "warmup_steps", warmup_steps, 0)
    for milestone in milestones:
        check_integer(owner, "milestones", milestone, 1)
    if any(later <= earlier for earlier, later in pairwise(milestones)):
        raise fail(owner, "milestones that rise", list(milestones))
    if milestones and milestones[0] < warmup_steps:
        raise fail(owner, f"milestones not below warmup_steps = {warmup_steps}", list(milestones))

    check_unit_interval(owner, "gamma", gamma)
    check_unit_interval(owner, "start_factor", start_factor)
    if total_steps is None:
        return

    check_integer(owner, "total_steps", total_steps, 1)
    last_change = max(warmup_steps, *milestones, 0)
    if total_steps <= last_change:
        raise fail(
            owner,
            f"total_steps above warmup_steps and every milestone, {last_change}",
            total_steps,
            "Count all of them in one unit: epochs, or epochs x batches.",
        )


class WarmupMultiStepLR(LRScheduler):
    """Multiply the base rate of every parameter group by :func:`warmup_multistep_factor`.

    The rate is a function of the step alone, so a resumed run and a direct evaluation agree. Call
    ``step()`` after each optimiser step; or after each epoch, with all numbers in epochs.

    Args:
        optimizer: Optimiser; the ``lr`` of its groups are the peak rates.
        warmup_steps: Steps of the warm-up, at least 0.
        milestones: Numbers of completed steps after which the rate falls: rising, none below
            ``warmup_steps``.
        gamma: Factor at each milestone, in [0, 1].
        start_factor: Fraction of the peak that the warm-up rises from, in [0, 1].
        total_steps: All steps of the run, above every milestone. ``None`` for a schedule without an
            end.

    Warns:
        UserWarning: Once, in ``step()``, if Accelerate prepared the schedule on several processes:
            it then makes that many steps for each step of the optimiser.

    Raises:
        ValueError: If a number is out of its range; in ``step()``, if ``total_steps`` is given and
            exceeded.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
        >>> scheduler = WarmupMultiStepLR(optimizer, warmup_steps=2, milestones=[4])
        >>> rates = []
        >>> for _ in range(6):
        ...     rates.append(round(scheduler.get_last_lr()[0], 2))
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates
        [0.2, 0.4, 0.4, 0.4, 0.04, 0.04]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        milestones: Sequence[int],
        gamma: float = 0.1,
        *,
        start_factor: float = 0.0,
        total_steps: int | None = None,
    ) -> None:
        check_optimizer("WarmupMultiStepLR", optimizer)
        _check_schedule(
            "WarmupMultiStepLR", warmup_steps, milestones, gamma, start_factor, total_steps
        )

        self.warmup_steps = warmup_steps
        self.milestones = tuple(milestones)
        self.gamma = gamma
        self.start_factor = start_factor
        # Infinity and not None: Accelerate compares the steps done with it.
        self.total_steps = math.inf if total_steps is None else total_steps
        super().__init__(optimizer)

    def __repr__(self) -> str:
        """Options and the present step, on one line."""
        return (
            f"WarmupMultiStepLR(warmup_steps={self.warmup_steps}, milestones={self.milestones}, "
            f"gamma={self.gamma}, start_factor={self.start_factor}, "
            f"total_steps={self._finite_total_steps()}, step={self.last_epoch})"
        )

    def get_lr(self) -> list[float]:  # type: ignore[override]  # newer torch also allows tensors
        """Return the rates at the present step, one for each parameter group."""
        check_not_past_the_end("WarmupMultiStepLR", self.last_epoch, self._finite_total_steps())
        factor = warmup_multistep_factor(
            self.last_epoch,
            self.warmup_steps,
            self.milestones,
            gamma=self.gamma,
            start_factor=self.start_factor,
        )
        return [float(rate) * factor for rate in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        """Advance by one step, and set the rates of the parameter groups."""
        warn_if_stepped_several_times("WarmupMultiStepLR")
        super().step(epoch)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, and set its learning rates in the optimiser as well."""
        # States of earlier versions say None for no end.
        if state_dict.get("total_steps", 0) is None:
            state_dict = {**state_dict, "total_steps": math.inf}
        super().load_state_dict(state_dict)
        set_optimizer_rates(self)

    def _finite_total_steps(self) -> int | None:
        """All steps of the run; ``None`` for a schedule without an end."""
        return None if math.isinf(self.total_steps) else int(self.total_steps)

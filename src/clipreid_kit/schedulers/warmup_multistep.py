"""Linear warm-up, then a rate that falls by a factor at milestones."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.schedulers._closed_form import (
    check_not_past_the_end,
    check_share,
    check_step,
    set_rates,
    warmup_factor,
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
    r"""Share of the peak learning rate that is used at one step.

    Rises on a line through the warm-up, is 1 at its last step, and is multiplied by ``gamma`` at each milestone:

    .. math::
        f(t) = \begin{cases}
            s + (1 - s)\,\frac{t + 1}{W} & t < W \\
            \gamma^{\,|\{m : m \le t\}|} & t \ge W
        \end{cases}

    Args:
        step: :math:`t`, 0 at the first optimiser step (or epoch).
        warmup_steps: :math:`W \ge 0`; 0 for no warm-up.
        milestones: Steps from which the rate is lower, rising, none below ``warmup_steps``; the rate falls after
            ``m`` steps have been made. Empty for none.
        gamma: Factor at each milestone, in [0, 1].
        start_factor: :math:`s` in [0, 1]: the share from which the warm-up rises. CLIP-ReID: 0.1 (ViT), 0.01 (CNN).
        total_steps: All steps of the run, if the schedule shall end; above ``warmup_steps`` and every milestone.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: If ``step`` lies beyond the schedule, milestones do not rise, or a number is out of range.

    Example:
        >>> [round(warmup_multistep_factor(t, 2, [4, 6], start_factor=0.1), 3) for t in range(8)]
        [0.55, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]

    Note:
        CLIP-ReID steps its scheduler before an epoch, and so begins at t = 1: its warm-up is equal to this one, and
        each of its milestones comes one epoch earlier. Its milestones 30, 50 are 29, 49 here.
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
    check_integer(owner, "warmup_steps", warmup_steps, 0)
    for milestone in milestones:
        check_integer(owner, "milestones", milestone, 1)
    if any(later <= earlier for earlier, later in pairwise(milestones)):
        raise fail(owner, "milestones that rise", list(milestones))
    if milestones and milestones[0] < warmup_steps:
        raise fail(owner, f"milestones not below warmup_steps = {warmup_steps}", list(milestones))
    check_share(owner, "gamma", gamma)
    check_share(owner, "start_factor", start_factor)
    if total_steps is not None:
        check_integer(owner, "total_steps", total_steps, 1)
        if total_steps <= max(warmup_steps, *milestones, 0):
            raise fail(
                owner,
                "total_steps above warmup_steps and every milestone",
                f"{total_steps} with {warmup_steps} and {list(milestones)}",
                "Count all of them in one unit: epochs, or epochs x batches.",
            )


class WarmupMultiStepLR(LRScheduler):
    """Set every parameter group's rate to its own base rate times :func:`warmup_multistep_factor`.

    The rate is a function of the step alone, so a resumed run and a direct evaluation agree. Call ``step()`` after
    each optimiser step (or each epoch: then count all numbers in epochs).

    Args:
        optimizer: Its groups' ``lr`` are the peak rates.
        warmup_steps: At least 0.
        milestones: Steps from which the rate is lower, rising, none below ``warmup_steps``.
        gamma: Factor at each milestone, in [0, 1].
        start_factor: Share of the peak from which the warm-up rises, in [0, 1].
        total_steps: All steps of the run; ``None`` for a schedule without an end.

    Raises:
        ValueError: If the numbers are out of range; in ``step()``, when ``total_steps`` is given and passed.

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
        _check_schedule(
            "WarmupMultiStepLR", warmup_steps, milestones, gamma, start_factor, total_steps
        )
        self.warmup_steps = warmup_steps
        self.milestones = tuple(milestones)
        self.gamma = gamma
        self.start_factor = start_factor
        self.total_steps = total_steps
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]  # newer torch also allows tensors
        """Rates at the present step, one for each parameter group."""
        check_not_past_the_end("WarmupMultiStepLR", self.last_epoch, self.total_steps)
        factor = warmup_multistep_factor(
            self.last_epoch,
            self.warmup_steps,
            self.milestones,
            gamma=self.gamma,
            start_factor=self.start_factor,
        )
        return [float(rate) * factor for rate in self.base_lrs]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state, and give the optimiser its rates, also where the optimiser's own state is not loaded."""
        super().load_state_dict(state_dict)
        set_rates(self)

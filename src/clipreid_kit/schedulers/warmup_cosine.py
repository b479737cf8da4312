"""Linear warm-up, then half a cosine down to a floor."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from clipreid_kit._checks import check_at_least, check_integer, fail


def warmup_cosine_factor(
    step: int, warmup_steps: int, total_steps: int, *, start_factor: float = 0.0, min_factor: float = 0.0
) -> float:
    r"""Share of the peak learning rate that is used at one step.

    Rises on a line through the warm-up, is 1 at its last step, and falls on half a cosine to ``min_factor`` at
    ``total_steps``:

    .. math::
        f(t) = \begin{cases}
            s + (1 - s)\,\frac{t + 1}{W} & t < W \\
            m + \frac{1 - m}{2} \big(1 + \cos \pi \frac{t - W}{T - W}\big) & W \le t \le T
        \end{cases}

    Args:
        step: :math:`t`, 0 at the first optimiser step (or epoch), at most ``total_steps``.
        warmup_steps: :math:`W \ge 0`; 0 for no warm-up.
        total_steps: :math:`T > W`, all steps of the run, warm-up included, in the unit of ``step``.
        start_factor: :math:`s` in [0, 1]: the share from which the warm-up rises.
        min_factor: :math:`m` in [0, 1]: the share at the end.

    Returns:
        A number in [0, 1]; above 0 at the first step, so that no step is wasted.

    Raises:
        ValueError: If ``step`` lies beyond the schedule, a count is not a whole number, or a number is out of range.

    Example:
        >>> [round(warmup_cosine_factor(t, 2, 6), 2) for t in range(7)]
        [0.5, 1.0, 1.0, 0.85, 0.5, 0.15, 0.0]

    References:
        Loshchilov and Hutter, SGDR, ICLR 2017, eq. 5 (one period).
    """
    _check_schedule("warmup_cosine_factor", warmup_steps, total_steps)
    for name, value in (("start_factor", start_factor), ("min_factor", min_factor)):
        if not 0 <= value <= 1:
            raise fail("warmup_cosine_factor", f"{name} in [0, 1]", value)
    if not 0 <= step <= total_steps:
        raise fail(
            "warmup_cosine_factor",
            f"step in [0, total_steps = {total_steps}]",
            step,
            "Count total_steps in the unit in which you step: epochs, or epochs x batches.",
        )
    if step < warmup_steps:
        return start_factor + (1 - start_factor) * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return min_factor + (1 - min_factor) * 0.5 * (1 + math.cos(math.pi * progress))


def _check_schedule(owner: str, warmup_steps: int, total_steps: int) -> None:
    check_integer(owner, "warmup_steps", warmup_steps, 0)
    check_integer(owner, "total_steps", total_steps, 1)
    if total_steps <= warmup_steps:
        raise fail(owner, "total_steps above warmup_steps", f"{total_steps} and {warmup_steps}")


class WarmupCosineLR(LRScheduler):
    """Set every parameter group's rate to its own base rate times :func:`warmup_cosine_factor`.

    The rate is a function of the step alone, so a resumed run and a direct evaluation agree. Call ``step()`` after
    each optimiser step (or each epoch: then count both numbers in epochs).

    Args:
        optimizer: Its groups' ``lr`` are the peak rates.
        warmup_steps: At least 0.
        total_steps: All steps of the run, above ``warmup_steps``.
        min_lr: Floor that every group reaches at ``total_steps``, in the unit of ``lr``; not above any peak rate.
        start_factor: Share of the peak from which the warm-up rises, in [0, 1].

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
    ) -> None:
        _check_schedule("WarmupCosineLR", warmup_steps, total_steps)
        check_at_least("WarmupCosineLR", "min_lr", min_lr, 0)
        for group in optimizer.param_groups:
            peak = float(group.get("initial_lr", group["lr"]))
            if min_lr > peak:
                raise fail("WarmupCosineLR", f"min_lr not above the peak rate {peak:g} of every group", min_lr)
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.min_lr = min_lr
        self.start_factor = start_factor
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]  # newer torch also allows tensors
        """Rates at the present step, one for each parameter group."""
        if self.last_epoch > self.total_steps:
            raise ValueError(
                f"WarmupCosineLR: expected at most total_steps = {self.total_steps} steps, got one more. "
                "Count total_steps in the unit in which you call step(): epochs, or epochs x batches."
            )
        return [
            base
            * warmup_cosine_factor(
                self.last_epoch,
                self.warmup_steps,
                self.total_steps,
                start_factor=self.start_factor,
                min_factor=self.min_lr / base if base > 0 else 0.0,
            )
            for base in (float(rate) for rate in self.base_lrs)
        ]

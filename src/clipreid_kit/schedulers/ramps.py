"""Weights of losses that rise or fall with the step.

``functools.partial`` fixes all arguments but the step: ``partial(linear_ramp, start=5, end=20)`` is
a weight for :class:`clipreid_kit.losses.WeightedSum`, and can be pickled. So is
``partial(warmup_cosine_factor, warmup_steps=5, total_steps=60)``, for a weight that rises and then
falls. A constant weight is a number.
"""

import math

from clipreid_kit._checks import check_integer, check_number, fail


def linear_ramp(
    step: int, start: int, end: int, *, initial: float = 0.0, final: float = 1.0
) -> float:
    r"""Weight that changes linearly from one value to another, and is constant before and after.

    .. math:: w(t) = a + (b - a)\,\mathrm{clip}\Big(\frac{t - t_0}{t_1 - t_0},\, 0,\, 1\Big)

    Args:
        step: :math:`t \ge 0`, in steps or epochs.
        start: :math:`t_0 \ge 0`: the last step with ``initial``, in the unit of ``step``.
        end: :math:`t_1 \ge t_0`: the first step with ``final``. Equal to ``start`` for a jump to
            ``final`` there.
        initial: :math:`a`, finite.
        final: :math:`b`, finite; below ``initial`` for a weight that falls.

    Returns:
        A number between ``initial`` and ``final``.

    Raises:
        ValueError: If a count is not a whole number, ``end`` is before ``start``, or a value is not
            finite.

    Example:
        >>> [linear_ramp(t, 1, 5, final=2.0) for t in range(7)]
        [0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    """
    progress = _progress("linear_ramp", step, start, end, initial, final)
    return _interpolate(initial, final, progress)


def cosine_ramp(
    step: int, start: int, end: int, *, initial: float = 0.0, final: float = 1.0
) -> float:
    r"""Weight that changes from one value to another along half a cosine: slowly at both ends.

    .. math:: w(t) = a + \frac{b - a}{2} (1 - \cos \pi x), \quad
        x = \mathrm{clip}\Big(\frac{t - t_0}{t_1 - t_0},\, 0,\, 1\Big)

    Args:
        step: :math:`t \ge 0`, in steps or epochs.
        start: :math:`t_0 \ge 0`: the last step with ``initial``, in the unit of ``step``.
        end: :math:`t_1 \ge t_0`: the first step with ``final``. Equal to ``start`` for a jump to
            ``final`` there.
        initial: :math:`a`, finite.
        final: :math:`b`, finite; below ``initial`` for a weight that falls.

    Returns:
        A number between ``initial`` and ``final``.

    Raises:
        ValueError: If a count is not a whole number, ``end`` is before ``start``, or a value is not
            finite.

    Example:
        >>> [round(cosine_ramp(t, 0, 4), 3) for t in range(6)]
        [0.0, 0.146, 0.5, 0.854, 1.0, 1.0]
    """
    progress = _progress("cosine_ramp", step, start, end, initial, final)
    return _interpolate(initial, final, 0.5 * (1 - math.cos(math.pi * progress)))


def _interpolate(initial: float, final: float, fraction: float) -> float:
    """Interpolate linearly; exact at both ends."""
    return initial * (1 - fraction) + final * fraction


def _progress(owner: str, step: int, start: int, end: int, initial: float, final: float) -> float:
    """Check the arguments, and return the fraction of the ramp that is done, in [0, 1]."""
    check_integer(owner, "start", start, 0)
    check_integer(owner, "end", end, 0)
    if end < start:
        raise fail(owner, f"end not before start = {start}", end)
    for name, value in (("initial", initial), ("final", final)):
        check_number(owner, name, value)
        if not math.isfinite(value):
            raise fail(owner, f"{name} to be finite", value)

    check_number(owner, "step", step)
    if step < 0:
        raise fail(owner, "step >= 0", step)

    if step >= end:
        return 1.0
    if step <= start:
        return 0.0
    return (step - start) / (end - start)

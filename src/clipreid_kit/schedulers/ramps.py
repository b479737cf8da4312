"""Weights of losses that change with the step: a number from a step, nothing held.

``functools.partial`` fixes the rest: ``partial(linear_ramp, start=5, end=20)`` is a weight that
:class:`clipreid_kit.losses.WeightedSum` takes, and can be pickled. So is
``partial(warmup_cosine_factor, warmup_steps=5, total_steps=60)``, for a weight that rises and falls; a constant weight
is a number.
"""

import math

from clipreid_kit._checks import check_integer, fail


def linear_ramp(
    step: int, start: int, end: int, *, initial: float = 0.0, final: float = 1.0
) -> float:
    r"""Weight that goes from one value to another on a line, and is constant before and after.

    .. math:: w(t) = a + (b - a)\,\mathrm{clip}\Big(\frac{t - t_0}{t_1 - t_0},\, 0,\, 1\Big)

    Args:
        step: :math:`t \ge 0`, in steps or epochs.
        start: :math:`t_0`: the last step with ``initial``, in the unit of ``step``.
        end: :math:`t_1 \ge t_0`: the first step with ``final``. Equal to ``start``: a jump there, to ``final``.
        initial: :math:`a`.
        final: :math:`b`; below ``initial`` for a weight that falls.

    Returns:
        A number between ``initial`` and ``final``.

    Raises:
        ValueError: If a count is no whole number, ``end`` lies before ``start`` or a value is not finite.

    Example:
        >>> [linear_ramp(t, 1, 5, final=2.0) for t in range(7)]
        [0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    """
    return _between(initial, final, _progress("linear_ramp", step, start, end, initial, final))


def cosine_ramp(
    step: int, start: int, end: int, *, initial: float = 0.0, final: float = 1.0
) -> float:
    r"""Weight that goes from one value to another on half a cosine: slowly at both ends, fast in the middle.

    .. math:: w(t) = a + \frac{b - a}{2} (1 - \cos \pi x), \quad
        x = \mathrm{clip}\Big(\frac{t - t_0}{t_1 - t_0},\, 0,\, 1\Big)

    Args:
        step: :math:`t \ge 0`, in steps or epochs.
        start: :math:`t_0`: the last step with ``initial``, in the unit of ``step``.
        end: :math:`t_1 \ge t_0`: the first step with ``final``. Equal to ``start``: a jump there, to ``final``.
        initial: :math:`a`.
        final: :math:`b`; below ``initial`` for a weight that falls.

    Returns:
        A number between ``initial`` and ``final``.

    Raises:
        ValueError: If a count is no whole number, ``end`` lies before ``start`` or a value is not finite.

    Example:
        >>> [round(cosine_ramp(t, 0, 4), 3) for t in range(6)]
        [0.0, 0.146, 0.5, 0.854, 1.0, 1.0]
    """
    progress = _progress("cosine_ramp", step, start, end, initial, final)
    return _between(initial, final, 0.5 * (1 - math.cos(math.pi * progress)))


def _between(initial: float, final: float, share: float) -> float:
    return initial * (1 - share) + final * share  # exact at both ends


def _progress(owner: str, step: int, start: int, end: int, initial: float, final: float) -> float:
    for name, count in (("start", start), ("end", end)):
        check_integer(owner, name, count, 0)
    if step < 0:  # no more than a comparison: under torch.compile the step is symbolic
        raise fail(owner, "step >= 0", step)
    if end < start:
        raise fail(owner, f"end not before start = {start}", end)
    for name, value in (("initial", initial), ("final", final)):
        if not math.isfinite(value):
            raise fail(owner, f"{name} to be finite", value)
    if step >= end:
        return 1.0
    return max(step - start, 0) / (end - start) if end > start else 0.0

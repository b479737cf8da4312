"""Holm's correction of p-values for the number of tests."""

from collections.abc import Sequence

from clipreid_kit._checks import check_number, fail


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for having made several tests, by Holm's step-down rule.

    With m tests, the smallest p-value is multiplied by m, the next by m - 1, and so on; none is
    smaller than the one before it, and none is above 1. To call a difference significant if its
    corrected p-value is at most ``level`` makes one false call or more with a probability of at
    most ``level``, however the tests depend on each other.

    Args:
        p_values: The p-value of each test, in [0, 1].

    Returns:
        The corrected p-values, in the given order; an empty list for no test.

    Raises:
        ValueError: If a p-value is not a number in [0, 1].

    Example:
        >>> holm_correction([0.25, 0.0625, 0.5])  # x 2, x 3, x 1
        [0.5, 0.1875, 0.5]

    References:
        Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
        Statistics 1979.
    """
    owner = "holm_correction"
    for p_value in p_values:
        check_number(owner, "each p-value", p_value)
        if not 0 <= p_value <= 1:
            raise fail(owner, "each p-value in [0, 1]", p_value)

    num_tests = len(p_values)
    ascending = sorted(range(num_tests), key=lambda test: p_values[test])

    corrected = [0.0] * num_tests
    lowest = 0.0
    for position, test in enumerate(ascending):
        lowest = max(lowest, min(1.0, (num_tests - position) * p_values[test]))
        corrected[test] = lowest
    return corrected

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.metrics import holm_correction

p_values = st.lists(st.floats(0, 1), max_size=6)


def rejected(p_values, level):
    """Holm's rule in its own words: step down until a p-value is too large."""
    chosen = set()
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for step, test in enumerate(order):
        if p_values[test] * (len(p_values) - step) > level:
            break
        chosen.add(test)
    return chosen


@given(p_values, st.floats(0.001, 0.999))
def test_rejects_what_the_step_down_rule_rejects(p_values, level):
    corrected = holm_correction(p_values)
    assert {test for test, value in enumerate(corrected) if value <= level} == rejected(
        p_values, level
    )


def test_closed_testing_of_three():
    """Holm is the closed test that tries every subset by Bonferroni."""
    p_values = [0.01, 0.04, 0.03]
    for test, corrected in enumerate(holm_correction(p_values)):
        subsets = [
            subset
            for size in (1, 2, 3)
            for subset in itertools.combinations(range(3), size)
            if test in subset
        ]
        worst = max(len(subset) * min(p_values[one] for one in subset) for subset in subsets)
        assert corrected == pytest.approx(worst)


def test_nothing_and_one():
    assert holm_correction([]) == []
    assert holm_correction([0.3]) == [0.3]


@pytest.mark.unhooked
@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), "small", None])
def test_bad_input(value):
    with pytest.raises(ValueError, match="holm_correction: expected each p-value"):
        holm_correction([0.5, value])

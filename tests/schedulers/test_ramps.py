import functools
import itertools
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.schedulers import cosine_ramp, linear_ramp

for_both_ramps = pytest.mark.parametrize("ramp", [linear_ramp, cosine_ramp])
values = st.floats(-100, 100)


@for_both_ramps
@given(st.integers(0, 20), st.integers(1, 20), values, values)
def test_is_constant_before_and_after_to_the_last_bit(ramp, start, length, initial, final):
    end = start + length
    weights = [ramp(step, start, end, initial=initial, final=final) for step in range(end + 5)]

    assert set(weights[: start + 1]) == {initial}
    assert set(weights[end:]) == {final}


@for_both_ramps
@given(st.integers(0, 20), values, values)
def test_jumps_where_start_and_end_are_equal(ramp, start, initial, final):
    weights = [ramp(step, start, start, initial=initial, final=final) for step in range(start + 5)]

    assert weights == [initial] * start + [final] * 5


@for_both_ramps
@given(st.integers(0, 20), st.integers(0, 20), values, values)
def test_moves_in_one_direction(ramp, start, length, initial, final):
    low, high = sorted((initial, final))
    weights = [ramp(step, start, start + length, initial=low, final=high) for step in range(45)]
    for earlier, later in itertools.pairwise(weights):
        assert later >= earlier - 1e-9

    weights = [ramp(step, start, start + length, initial=high, final=low) for step in range(45)]
    for earlier, later in itertools.pairwise(weights):
        assert later <= earlier + 1e-9


@for_both_ramps
@given(st.integers(0, 9), st.integers(1, 20), st.integers(0, 20))
def test_is_symmetric_about_its_middle(ramp, start, length, distance):
    distance = min(distance, length)
    end = start + length
    after_start = ramp(start + distance, start, end)
    before_end = ramp(end - distance, start, end)
    assert after_start + before_end == pytest.approx(1)


@given(st.integers(0, 40), st.integers(0, 15), st.integers(1, 15))
def test_equals_the_formulas(step, start, length):
    x = min(max((step - start) / length, 0), 1)
    options = {"initial": 2, "final": 5}

    linear = linear_ramp(step, start, start + length, **options)
    cosine = cosine_ramp(step, start, start + length, **options)

    assert linear == pytest.approx(2 + 3 * x)
    assert cosine == pytest.approx(2 + 1.5 * (1 - math.cos(math.pi * x)))


def test_fraction_of_the_run():
    # the weight epoch / epochs, which some training runs of PromptSG give to the contrastive term
    assert [linear_ramp(epoch, 0, 20) for epoch in (0, 5, 20)] == [0, 0.25, 1]


@for_both_ramps
def test_a_partial_can_be_pickled(ramp):
    weight = functools.partial(ramp, start=2, end=6, final=0.5)
    restored = pickle.loads(pickle.dumps(weight))
    assert restored(4) == weight(4) == pytest.approx(0.25)


@pytest.mark.unhooked
@for_both_ramps
@pytest.mark.parametrize(
    ("step", "start", "end", "options", "message"),
    [
        (0, 5, 4, {}, "end not before start = 5, got 4"),
        (0, 0, 2.5, {}, r"end as a whole number >= 0, got 2\.5"),
        (0, "0", 4, {}, "start as a whole number >= 0, got '0'"),
        (-1, 0, 4, {}, "step >= 0, got -1"),
        ("1", 0, 4, {}, "step as a number, got '1'"),
        (0, 0, 4, {"final": math.inf}, "final to be finite, got inf"),
        (0, 0, 4, {"initial": None}, "initial as a number, got None"),
    ],
)
def test_wrong_arguments(ramp, step, start, end, options, message):
    with pytest.raises(ValueError, match=f"{ramp.__name__}: expected {message}"):
        ramp(step, start, end, **options)

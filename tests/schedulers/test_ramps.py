import functools
import itertools
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.schedulers import cosine_ramp, linear_ramp

ramps = pytest.mark.parametrize("ramp", [linear_ramp, cosine_ramp])
values = st.floats(-100, 100)


@ramps
@given(st.integers(0, 20), st.integers(0, 20), values, values)
def test_goes_from_one_value_to_the_other_and_stays_there(ramp, start, length, initial, final):
    end = start + length
    weights = [ramp(t, start, end, initial=initial, final=final) for t in range(end + 5)]
    assert all(
        weight == initial for weight in weights[: start + 1 if length else start]
    )  # to the last bit
    assert all(weight == final for weight in weights[end:])
    rising = 1 if final >= initial else -1
    assert all(rising * (b - a) >= -1e-9 for a, b in itertools.pairwise(weights))


@ramps
@given(st.integers(0, 9), st.integers(1, 20), st.integers(0, 20))
def test_is_symmetric_about_its_middle(ramp, start, length, step):
    step = min(step, length)
    assert ramp(start + step, start, start + length) + ramp(
        start + length - step, start, start + length
    ) == (pytest.approx(1))


@given(st.integers(0, 40), st.integers(0, 15), st.integers(1, 15))
def test_equals_the_formulas(step, start, length):
    x = min(max((step - start) / length, 0), 1)
    assert linear_ramp(step, start, start + length, initial=2, final=5) == pytest.approx(2 + 3 * x)
    want = 2 + 1.5 * (1 - math.cos(math.pi * x))
    assert cosine_ramp(step, start, start + length, initial=2, final=5) == pytest.approx(want)


def test_share_of_the_run():
    # the weight epoch / epochs, with which the contrastive term of some PromptSG trainings is brought in
    assert [linear_ramp(epoch, 0, 20) for epoch in (0, 5, 20)] == [0, 0.25, 1]


@ramps
def test_partial_can_be_pickled(ramp):
    weight = functools.partial(ramp, start=2, end=6, final=0.5)
    assert pickle.loads(pickle.dumps(weight))(4) == weight(4) == pytest.approx(0.25)


@ramps
def test_errors(ramp):
    with pytest.raises(
        ValueError, match=f"{ramp.__name__}: expected end not before start = 5, got 4"
    ):
        ramp(0, 5, 4)
    with pytest.raises(ValueError, match="step >= 0, got -1"):
        ramp(-1, 0, 4)
    with pytest.raises(ValueError, match="final to be finite, got inf"):
        ramp(0, 0, 4, final=math.inf)


@ramps
@pytest.mark.unhooked
def test_counts_are_whole_numbers(ramp):
    with pytest.raises(ValueError, match=r"end as a whole number >= 0, got 2\.5"):
        ramp(0, 0, 2.5)

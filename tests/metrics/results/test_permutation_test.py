import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from clipreid_kit.metrics import paired_permutation_test
from clipreid_kit.metrics.results import permutation_test

# few distinct values, so that swaps tie with what was observed
values = st.lists(st.sampled_from([-0.5, -0.1, 0.0, 0.1, 0.3, 0.7]), min_size=2, max_size=8)


@given(values, st.randoms(use_true_random=False))
def test_every_swap_by_a_loop(differences, random):
    groups = [random.randrange(4) for _ in differences]
    groups[:2] = [0, 1]
    num_extreme, num_swaps = 0, 0
    for signs in itertools.product([1, -1], repeat=4):
        swapped = sum(signs[g] * round(10 * d) for g, d in zip(groups, differences, strict=True))
        num_extreme += abs(swapped) >= abs(sum(round(10 * d) for d in differences))
        num_swaps += 1

    result = paired_permutation_test(np.array(differences), groups)
    assert result == (pytest.approx(num_extreme / num_swaps), True)


@pytest.mark.parametrize("scale", [0.05, 0.3])
def test_equals_scipy(scale):
    rng = np.random.default_rng(0)
    first = rng.random(9)
    second = first + scale * rng.standard_normal(9)
    exact = stats.permutation_test(
        (first, second),
        lambda one, other, axis: (one - other).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
    )
    found = paired_permutation_test(first - second, np.arange(9))
    assert found == (pytest.approx(exact.pvalue), True)

    sampled = paired_permutation_test(first - second, np.arange(9), num_samples=500)
    assert not sampled.is_exact
    assert sampled.p_value == pytest.approx(exact.pvalue, abs=0.07)


def test_calls_a_difference_where_there_is_none_as_often_as_stated():
    rng = np.random.default_rng(1)
    false_calls, of_queries = 0, 0
    for _ in range(200):
        of_identity = rng.standard_normal(20)[:, None]
        differences = (of_identity + 0.3 * rng.standard_normal((20, 5))).ravel()
        groups = np.arange(20).repeat(5)
        false_calls += paired_permutation_test(differences, groups, num_samples=199)[0] <= 0.05
        of_queries += (
            paired_permutation_test(differences, np.arange(100), num_samples=199)[0] <= 0.05
        )

    assert 2 <= false_calls <= 20  # 10 are expected
    assert of_queries > 50  # queries of one identity are not independent


@pytest.mark.parametrize("num_samples", [1000, 10])
def test_equal_models(num_samples):
    groups = np.arange(30) // 3
    assert paired_permutation_test(np.zeros(30), groups, num_samples=num_samples).p_value == 1


def test_swapped_models_and_a_separate_generator():
    differences, groups = np.random.default_rng(2).standard_normal(60) + 0.2, np.arange(60) // 2
    before = torch.get_rng_state()
    found = paired_permutation_test(differences, groups)

    assert torch.equal(before, torch.get_rng_state())
    assert paired_permutation_test(-differences, groups) == found
    assert paired_permutation_test(differences, groups, seed=1) != found


@pytest.mark.parametrize("num_samples", [40, 1000])
def test_blocks_change_nothing(monkeypatch, num_samples):
    differences, groups = np.random.default_rng(3).standard_normal(16) + 0.3, np.arange(16) // 2
    want = paired_permutation_test(differences, groups, num_samples=num_samples)
    monkeypatch.setattr(permutation_test, "_CHUNK", 50)

    assert paired_permutation_test(differences, groups, num_samples=num_samples) == want


def test_missing_values_are_left_out():
    differences = np.array([0.1, np.nan, 0.2, 0.3])
    found = paired_permutation_test(differences, ["a", "b", "c", "d"])
    assert found == paired_permutation_test(torch.tensor([0.1, 0.2, 0.3]).double(), [1, 2, 3])


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": [4, 4, 4]}, "expected at least two groups with a value, got 1. One identity"),
        ({"differences": np.array([1.0, np.inf, 0.0])}, "differences hold infinity; use NaN"),
        ({"groups": [0, 1]}, r"expected groups as 3 ids, one for each row, got shape \(2,\)"),
        ({"num_samples": 0}, "expected num_samples as a whole number >= 1"),
        ({"seed": -1}, "expected seed as a whole number >= 0"),
    ],
)
def test_bad_input(change, message):
    arguments = {"differences": np.array([1.0, 0.5, 0.0]), "groups": [0, 1, 2], **change}
    with pytest.raises(ValueError, match=f"paired_permutation_test: {message}"):
        paired_permutation_test(**arguments)

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from clipreid_kit.metrics import ReidResult, compare_results

MEASURES = ["rank_1", "mean_ap", "mean_inp"]


def make_result(seed, shift=0.0, num_identities=6):
    """A result of three queries of each identity; the last query of all has no match."""
    rng = np.random.default_rng(seed)
    num_queries = 3 * num_identities
    precision = np.clip(rng.random(num_queries) + shift, 0, 1)
    first_rank = np.where(precision > 0.5, 1, 4)
    num_positives = np.full(num_queries, 2)
    first_rank[-1] = num_positives[-1] = 0
    precision[-1] = np.nan
    ids = np.arange(num_queries) // 3
    return ReidResult(precision, precision**2, first_rank, num_positives, 40, 20, ids)


def per_identity(result):
    return np.array([np.nansum(result.average_precision[result.query_ids == i]) for i in range(6)])


def test_one_pair_by_scipy():
    one, other = make_result(0, 0.2), make_result(1)
    pair = compare_results({"one": one, "other": other}, measures=["mean_ap"]).differences[0]

    exact = stats.permutation_test(
        (per_identity(one), per_identity(other)),
        lambda x, y: x.mean() - y.mean(),
        permutation_type="samples",
    )
    assert pair.is_exact
    assert pair.corrected_p_value == pair.p_value == pytest.approx(exact.pvalue)
    assert pair.effect.mean == pytest.approx(one.mean_ap - other.mean_ap)
    assert pair.effect.low < pair.effect.mean < pair.effect.high


def test_all_pairs_and_measures_are_corrected_together():
    results = {name: make_result(seed, 0.4 * seed - 0.3) for seed, name in enumerate("abc")}
    every = compare_results(results, measures=MEASURES)
    pairs = {(pair.first, pair.second) for pair in every.differences}

    assert pairs == {("a", "b"), ("a", "c"), ("b", "c")}
    assert len(every.differences) == 9
    smallest = min(every.differences, key=lambda pair: pair.p_value)
    assert smallest.corrected_p_value == pytest.approx(9 * smallest.p_value)
    assert (every.num_queries, every.num_identities) == (17, 6)

    with_one = compare_results(results, measures=["mean_ap"], baseline="b")
    assert [(pair.first, pair.second) for pair in with_one.differences] == [("a", "b"), ("c", "b")]


def test_several_seeds():
    runs = [make_result(seed, 0.3) for seed in range(3)]
    compared = compare_results({"a": runs, "b": make_result(9)}, measures=["mean_ap"])
    of_runs = [run.mean_ap for run in runs]

    rate = compared.rates["a"]["mean_ap"]
    assert rate == (pytest.approx(np.mean(of_runs)), pytest.approx(np.std(of_runs, ddof=1)), 3)
    assert compared.rates["b"]["mean_ap"].std is None

    averaged = dataclasses.replace(
        runs[0], average_precision=np.mean([run.average_precision for run in runs], axis=0)
    )
    same = compare_results({"a": averaged, "b": make_result(9)}, measures=["mean_ap"])
    assert same.differences == compared.differences


def test_what_is_significant():
    results = {"good": make_result(0, 0.6, 30), "bad": make_result(1, -0.4, 30)}
    compared = compare_results(results, measures=["mean_ap"], num_samples=999)

    assert compared.worse_than("good", "mean_ap") == ["bad"]
    assert compared.worse_than("bad", "mean_ap") == []
    assert compared.differences[0].p_value == 1 / 1000

    strict = compare_results(results, measures=["mean_ap"], num_samples=999, level=1e-4)
    assert strict.worse_than("good", "mean_ap") == []


@given(st.integers(0, 1000))
@settings(max_examples=15)
def test_identical_results_have_no_effect(seed):
    result = make_result(seed)
    for pair in compare_results({"a": result, "b": result}, num_samples=50).differences:
        assert pair.effect == (0, 0, 0)
        assert pair.p_value == pair.corrected_p_value == 1


@given(st.integers(0, 1000), st.sampled_from(MEASURES))
@settings(max_examples=15)
def test_swapped_models_have_the_opposite_effect(seed, measure):
    one, other = make_result(seed), make_result(seed + 1)
    options = {"measures": [measure], "num_samples": 20}  # sampled, not exact
    (there,) = compare_results({"a": one, "b": other}, **options).differences
    (back,) = compare_results({"b": other, "a": one}, **options).differences

    assert back.p_value == there.p_value
    assert back.effect.mean == pytest.approx(-there.effect.mean)
    assert back.effect.low == pytest.approx(-there.effect.high)


def test_groups_of_results_without_identities():
    one, other = make_result(0, 0.2), make_result(1)
    unknown = [dataclasses.replace(result, query_ids=None) for result in (one, other)]
    known = compare_results({"a": one, "b": other})

    assert compare_results({"a": unknown[0], "b": other}) == known
    given_groups = {"a": unknown[0], "b": unknown[1]}
    assert compare_results(given_groups, groups=one.query_ids) == known
    with pytest.raises(ValueError, match="the results have no query_ids; pass the identity"):
        compare_results(given_groups)


def changed(**columns):
    return dataclasses.replace(make_result(1), **columns)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (make_result(1, num_identities=5), "of 'b' has 15 queries, and the first has 18. Evaluate"),
        (changed(query_ids=np.arange(18) // 2), "of 'b' has other query_ids than the first"),
        (changed(num_gallery=41), "of 'b' has another gallery or other valid matches"),
        (changed(num_positives=np.full(18, 3)), "another gallery or other valid matches"),
        (changed(average_precision=np.full(18, np.nan)), "mean_ap of 'b' is NaN or infinite for"),
        ([], "'b' has no result; leave it out"),
        (0.5, "expected .* of 'b', got float"),
    ],
)
def test_results_that_cannot_be_compared(other, message):
    with pytest.raises(ValueError, match=f"compare_results: .*{message}"):
        compare_results({"a": make_result(0), "b": other})


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"results": {"a": make_result(0)}}, "results of at least two models, by name, got 1"),
        ({"results": [make_result(0)]}, "results of at least two models, by name, got list"),
        ({"measures": ["map"]}, "measures such as mean_ap, mean_inp and rank_1, got 'map'"),
        ({"measures": "mean_ap"}, "measures as a list of different names, got 'mean_ap'"),
        ({"measures": []}, "measures as a list of different names"),
        ({"baseline": "c"}, "baseline as one of a, b, got 'c'"),
        ({"groups": np.zeros(18, dtype=int)}, "at least two groups with a value, got 1"),
        ({"level": 1.0}, "level above 0 and below 1, got 1.0"),
        ({"num_samples": 0}, "num_samples as a whole number >= 1"),
    ],
)
def test_bad_options(change, message):
    arguments = {"results": {"a": make_result(0), "b": make_result(1)}, **change}
    with pytest.raises(ValueError, match=message):
        compare_results(**arguments)


def test_no_query_with_a_match():
    empty = np.zeros(2, dtype=np.int64)
    nothing = ReidResult(np.full(2, np.nan), np.full(2, np.nan), empty, empty, 3, 3, np.arange(2))
    with pytest.raises(ValueError, match="no query has a valid match"):
        compare_results({"a": nothing, "b": nothing})


def test_an_unknown_name():
    compared = compare_results({"a": make_result(0), "b": make_result(1)}, num_samples=10)
    with pytest.raises(ValueError, match="there is no 'rank_5' of 'a'; this comparison has a, b"):
        compared.worse_than("a", "rank_5")

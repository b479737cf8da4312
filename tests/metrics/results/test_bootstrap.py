import itertools

import numpy as np
import pytest
import torch

from clipreid_kit.metrics import bootstrap_interval


def test_all_samples_of_three_groups():
    values, groups = np.array([1.0, 0.0, 0.5, 0.5, 0.2]), np.array([0, 0, 1, 1, 2])
    every = [
        np.concatenate([values[groups == g] for g in chosen]).mean()
        for chosen in itertools.product(range(3), repeat=3)
    ]
    interval = bootstrap_interval(values, groups, confidence=0.8, num_samples=20_000)

    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(np.quantile(every, 0.1), abs=0.02)
    assert interval.high == pytest.approx(np.quantile(every, 0.9), abs=0.02)


def test_groups_have_wider_intervals_than_single_queries():
    rng = np.random.default_rng(0)
    of_group = rng.random(30)
    values = np.repeat(of_group, 20)
    grouped = bootstrap_interval(values, np.repeat(np.arange(30), 20))
    single = bootstrap_interval(values, np.arange(600))

    assert grouped.high - grouped.low > 3 * (single.high - single.low)
    assert grouped.high - grouped.low == pytest.approx(
        2 * 1.96 * of_group.std() / 30**0.5, rel=0.15
    )


def test_covers_the_true_mean_about_as_often_as_stated():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        values = rng.normal(rng.normal(size=25)[:, None] * 0.5, 1.0, (25, 4)).ravel()
        low, high = bootstrap_interval(values, np.repeat(np.arange(25), 4), num_samples=300)[1:]
        inside += low <= 0 <= high

    assert 170 <= inside <= 200


def test_uses_a_separate_generator():
    values, groups = np.random.default_rng(2).random(40), np.arange(40) // 2
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = bootstrap_interval(values, groups)

    assert torch.equal(before, torch.get_rng_state())

    torch.manual_seed(2)
    assert bootstrap_interval(values, groups) == first
    assert bootstrap_interval(values, groups, seed=1) != first


def test_queries_without_a_value_are_left_out():
    values = np.array([1.0, np.nan, 0.0, np.nan, 0.4])
    with_nan = bootstrap_interval(values, ["a", "b", "c", "c", "d"])

    assert with_nan == bootstrap_interval(
        torch.tensor([1.0, 0.0, 0.4], dtype=torch.float64), ["a", "c", "d"]
    )


def test_chunks_change_nothing(monkeypatch):
    from clipreid_kit.metrics.results import bootstrap

    values, groups = np.arange(10.0), np.arange(10) // 2
    want = bootstrap_interval(values, groups, num_samples=100)
    monkeypatch.setattr(bootstrap, "_CHUNK", 35)

    assert bootstrap_interval(values, groups, num_samples=100) == want


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"values": np.ones((2, 2))},
            r"values as a vector, one for each query, got shape \(2, 2\)",
        ),
        ({"values": np.array([1.0, np.inf, 0.0])}, "values hold infinity; use NaN"),
        (
            {"values": np.array([1.0, np.nan, np.nan])},
            "at least two groups with a value, got 1. The spread",
        ),
        ({"groups": [0, 1]}, r"groups as 3 ids, one for each row, got shape \(2,\)"),
        ({"confidence": 1.0}, "confidence above 0 and below 1, got 1.0"),
        ({"num_samples": 0}, "num_samples as a whole number >= 1"),
        ({"seed": -1}, "seed as a whole number >= 0"),
        ({"seed": 2**63}, r"seed below 2\^63"),
        ({"values": ["a", "b", "c"]}, "values as numbers, got <U1"),
        ({"values": [[1.0], [1.0, 2.0], [1.0]]}, "values as an array, got rows of unequal length"),
    ],
)
def test_bad_input(change, message):
    arguments = {"values": np.array([1.0, 0.5, 0.0]), "groups": [0, 1, 2], **change}
    with pytest.raises(ValueError, match=f"bootstrap_interval: .*{message}"):
        bootstrap_interval(**arguments)

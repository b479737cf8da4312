import json
import math
import pickle

import numpy as np
import pytest

from clipreid_kit.metrics import RetrievalResult, bootstrap_interval

# ranks 2 and 3 of 10; rank 1 of 10; nothing relevant
RESULT = RetrievalResult(np.array([2, 3, 1]), np.array([0, 2, 3, 3]), 10)


def test_by_hand():
    assert (RESULT.num_queries, RESULT.num_valid_queries, RESULT.num_relevant.tolist()) == (
        3,
        2,
        [2, 1, 0],
    )
    assert [RESULT.hit_rate(k) for k in (1, 2)] == [0.5, 1.0]
    assert [RESULT.recall(k) for k in (1, 2, 3)] == [0.5, 0.75, 1.0]
    assert RESULT.precision(2) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert RESULT.mean_ap == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 2)
    assert RESULT.mean_reciprocal_rank == 0.75
    assert RESULT.r_precision == 0.75
    assert RESULT.mean_ap_at_r == pytest.approx((1 / 4 + 1) / 2)

    gain = 1 / math.log2(3) + 1 / math.log2(4)
    assert RESULT.ndcg() == pytest.approx((gain / (1 + 1 / math.log2(3)) + 1) / 2)
    assert RESULT.ndcg(1) == 0.5
    assert RESULT.ndcg(2) == pytest.approx((1 / math.log2(3) / (1 + 1 / math.log2(3)) + 1) / 2)


def test_several_relevant_rows_by_hand():
    result = RetrievalResult(np.array([1, 3, 4, 9]), np.array([0, 4]), 10)  # four relevant rows
    assert result.ndcg(1) == 1.0  # no list is better at 1
    assert result.recall(1) == 0.25
    assert result.mean_ap_at_r == pytest.approx((1 + 2 / 3 + 3 / 4) / 4)
    assert result.mean_ap == pytest.approx((1 + 2 / 3 + 3 / 4 + 4 / 9) / 4)
    assert result.r_precision == 0.75


def test_k_beyond_the_gallery():
    assert RESULT.recall(1000) == RESULT.hit_rate(1000) == 1.0
    assert RESULT.ndcg(1000) == RESULT.ndcg()
    assert RESULT.precision(1000) == pytest.approx((2 + 1) / 2000)


def test_of_each_is_nan_if_nothing_is_relevant():
    np.testing.assert_array_equal(RESULT.of_each("recall", 2), [0.5, 1.0, np.nan])
    np.testing.assert_array_equal(RESULT.of_each("r_precision"), [0.5, 1.0, np.nan])


def test_dictionary_and_table():
    numbers = RESULT.to_dict(ks=(1, 2))
    assert json.loads(json.dumps(numbers)) == numbers
    assert numbers["hit_rate_1"] == 0.5
    assert numbers["recall_2"] == 0.75
    assert numbers["ndcg_2"] == RESULT.ndcg(2)
    assert (numbers["num_queries"], numbers["num_valid_queries"], numbers["num_gallery"]) == (
        3,
        2,
        10,
    )

    lines = str(RESULT).splitlines()
    assert lines[0].split() == ["@1", "@5", "@10"]
    assert lines[1].split() == ["hit", "rate", "50.00", "100.00", "100.00"]
    assert lines[2].split() == ["recall", "50.00", "100.00", "100.00"]
    assert lines[4] == "mAP 79.17  MRR 75.00  R-precision 75.00  MAP@R 62.50"
    assert lines[5] == "2 queries, 10 gallery, 1 queries without a relevant row left out"

    whole = RetrievalResult(np.array([1]), np.array([0, 1]), 1)
    assert str(whole).endswith("1 queries, 1 gallery")
    assert pickle.loads(pickle.dumps(RESULT)).mean_ap == RESULT.mean_ap


def test_repr_is_what_print_shows():
    assert repr(RESULT) == str(RESULT)


def test_text_without_a_relevant_row():
    none = RetrievalResult(np.array([], dtype=np.int64), np.array([0, 0]), 10)
    assert repr(none).startswith("no query with a relevant row (0 queries, 10 gallery, 1 queries")


def test_is_frozen():
    with pytest.raises(AttributeError):
        RESULT.num_gallery = 3


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("measure", "k", "message"),
    [
        ("f1", None, "measure to be one of hit_rate, recall"),
        ("recall", None, "measure 'recall' needs a k"),
        ("average_precision", 3, "measure 'average_precision' takes no k, got 3"),
        ("recall", 0, "k as a whole number >= 1, got 0"),
        ("ndcg", 1.5, "k as a whole number >= 1, got 1.5"),
    ],
)
def test_bad_measure(measure, k, message):
    with pytest.raises(ValueError, match=message):
        RESULT.of_each(measure, k)


def with_ids():
    begin = np.arange(0, 44, 2)
    ranks = np.sort(
        np.random.default_rng(0).permuted(np.tile(np.arange(1, 9), (21, 1)), axis=1)[:, :2], axis=1
    )

    return RetrievalResult(ranks.ravel(), begin, 8, np.arange(21) // 3)


@pytest.mark.parametrize(
    ("measure", "k", "of_each"),
    [
        ("mean_ap", None, "average_precision"),
        ("mean_reciprocal_rank", None, "reciprocal_rank"),
        ("r_precision", None, "r_precision"),
        ("mean_ap_at_r", None, "average_precision_at_r"),
        ("recall", 3, "recall"),
        ("ndcg", None, "ndcg"),
    ],
)
def test_intervals_are_those_of_the_bootstrap_over_ids(measure, k, of_each):
    result = with_ids()
    interval = result.interval(measure, k, seed=2, num_samples=300)
    want = bootstrap_interval(result.of_each(of_each, k), result.query_ids, seed=2, num_samples=300)

    assert interval == want

    mean = getattr(result, measure)
    assert interval.mean == pytest.approx(mean(k) if callable(mean) else mean)


def test_intervals_need_ids():
    with pytest.raises(ValueError, match=r"this result has no query_ids; pass groups \(range"):
        RESULT.interval("mean_ap")

    assert RESULT.interval("mean_ap", groups=range(3)).mean == pytest.approx(RESULT.mean_ap)


@pytest.mark.unhooked
def test_unknown_mean():
    with pytest.raises(
        ValueError, match="measure to be one of hit_rate, recall, precision, ndcg, mean_ap"
    ):
        with_ids().interval("average_precision")


def test_columns_table_and_json(tmp_path):
    RESULT.write_csv(tmp_path / "queries.csv")
    lines = (tmp_path / "queries.csv").read_text().splitlines()

    assert (
        lines[0]
        == "query,average_precision,r_precision,average_precision_at_r,ndcg,first_rank,num_relevant"
    )
    assert lines[2] == "1,1.0,1.0,1.0,1.0,1,1"
    assert lines[3] == "2,,,,,0,0"
    assert json.loads(RESULT.to_json()) == RESULT.to_dict()

    table = RESULT.table(ks=(1,)).splitlines()
    assert table[0].split() == ["percent"]
    assert [line.split("  ")[0] for line in table[1:4]] == ["hit rate @1", "recall @1", "NDCG @1"]
    assert "95 % interval" in with_ids().table()
    assert with_ids().per_query()["query_id"].tolist() == with_ids().query_ids.tolist()

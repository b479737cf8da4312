import dataclasses
import json

import numpy as np
import pytest
import torch

from clipreid_kit.metrics import ReidEvaluator, ReidResult, bootstrap_interval, evaluate_reid


@pytest.fixture
def result():
    # three queries: first match at rank 1, at rank 3, no match at all
    return ReidResult(
        np.array([0.75, 0.25, np.nan]),
        np.array([0.5, 0.25, np.nan]),
        np.array([1, 3, 0]),
        np.array([2, 1, 0]),
        9,
        4,
    )


def test_means_leave_out_queries_without_a_match(result):
    assert result.mean_ap == 0.5
    assert result.mean_inp == 0.375
    assert (result.num_queries, result.num_valid_queries) == (3, 2)
    assert [result.rank(k) for k in (1, 2, 3, 9, 100)] == [0.5, 0.5, 1, 1, 1]
    assert result.cmc.tolist() == [0.5, 0.5, 1, 1]


def test_json_and_text(result):
    assert json.loads(json.dumps(result.to_dict(ranks=(1, 3)))) == {
        "rank_1": 0.5,
        "rank_3": 1.0,
        "mean_ap": 0.5,
        "mean_inp": 0.375,
        "num_queries": 3,
        "num_valid_queries": 2,
        "num_gallery": 9,
    }
    assert str(result) == (
        "Rank-1 50.00  Rank-5 100.00  Rank-10 100.00  mAP 50.00  mINP 37.50  "
        "(2 queries, 9 gallery, 1 queries without a match left out)"
    )


def test_repr_is_what_print_shows(result):
    assert repr(result) == str(result)


def test_text_without_a_match():
    none = ReidResult(
        np.array([np.nan]),
        np.array([np.nan]),
        np.array([0]),
        np.array([0]),
        num_gallery=9,
        max_rank=4,
    )
    assert repr(none) == (
        "no query with a match (0 queries, 9 gallery, 1 queries without a match left out)"
    )


def test_rank_below_one(result):
    with pytest.raises(
        ValueError, match=r"ReidResult\.rank: expected k as a whole number >= 1, got 0"
    ):
        result.rank(0)


def measured():
    rng = np.random.default_rng(0)
    positives = rng.integers(0, 3, 40)
    ap = np.where(positives > 0, rng.random(40), np.nan)
    first = np.where(positives > 0, rng.integers(1, 9, 40), 0)

    return ReidResult(ap, ap / 2, first, positives, 9, 9, np.arange(40) // 4)


def test_intervals_are_those_of_the_bootstrap_over_identities():
    result = measured()
    interval = result.interval("mean_ap", confidence=0.9, num_samples=500, seed=3)

    assert interval == bootstrap_interval(
        result.average_precision, result.query_ids, confidence=0.9, num_samples=500, seed=3
    )
    assert interval.mean == pytest.approx(result.mean_ap)
    assert result.interval("mean_inp").mean == pytest.approx(result.mean_inp)
    assert result.interval("rank", 3).mean == pytest.approx(result.rank(3))
    assert interval.low < interval.mean < interval.high

    other = result.interval(
        "mean_ap", groups=np.arange(40), confidence=0.9, num_samples=500, seed=3
    )

    assert other != interval


def test_intervals_need_identities(result):
    with pytest.raises(
        ValueError, match="this result has no query_ids; pass the identity of each query as groups"
    ):
        result.interval("mean_ap")

    with pytest.raises(ValueError, match="at least two groups"):
        result.interval("mean_ap", groups=[1, 1, 2])

    assert "interval" not in result.table()


@pytest.mark.unhooked
def test_bad_measures():
    with pytest.raises(ValueError, match="measure to be one of mean_ap, mean_inp, rank"):
        measured().interval("accuracy")
    with pytest.raises(ValueError, match="measure 'rank' needs a k"):
        measured().interval("rank")
    with pytest.raises(ValueError, match="measure 'mean_ap' takes no k, got 3"):
        measured().interval("mean_ap", 3)


@pytest.mark.parametrize("ids", [None, np.arange(40) // 4, np.array([f"p{i}" for i in range(40)])])
@pytest.mark.parametrize("halves", [False, True])
def test_json_round_trip_to_the_last_bit(ids, halves):
    result = dataclasses.replace(measured(), query_ids=ids)
    if halves:  # as with ties="mean"
        result = dataclasses.replace(result, first_rank=result.first_rank.astype(np.float64))

    again = ReidResult.from_json(result.to_json(per_query=True))
    for field in dataclasses.fields(ReidResult):
        np.testing.assert_array_equal(
            getattr(again, field.name), getattr(result, field.name), field.name
        )

    assert again.first_rank.dtype == result.first_rank.dtype
    assert again.to_dict() == result.to_dict()
    assert json.loads(result.to_json()) == result.to_dict()


@pytest.mark.parametrize("text", ["{}", "[1]", '{"per_query": {"query": [0]}}'])
def test_json_without_the_columns(text):
    with pytest.raises(
        ValueError,
        match=r"columns of each query. Write it with to_json\(per_query=True",
    ):
        ReidResult.from_json(text)


@pytest.mark.parametrize("change", ['"first_rank": [1, 2]', '"first_rank": 1'])
def test_json_with_columns_of_other_lengths(result, change):
    values = json.loads(result.to_json(per_query=True))
    values["per_query"].update(json.loads("{" + change + "}"))

    with pytest.raises(ValueError, match=r"columns (of different lengths|that are not lists)"):
        ReidResult.from_json(json.dumps(values))

    values = json.loads(result.to_json(per_query=True))
    del values["max_rank"]

    with pytest.raises(ValueError, match="columns of each query"):
        ReidResult.from_json(json.dumps(values))


def test_columns_and_csv(tmp_path, result):
    assert list(result.per_query()) == [
        "query",
        "average_precision",
        "inverse_negative_penalty",
        "first_rank",
        "num_positives",
    ]

    named = dataclasses.replace(result, query_ids=np.array(["a", "b", "c"]))
    named.write_csv(tmp_path / "queries.csv")

    assert (tmp_path / "queries.csv").read_text().splitlines() == [
        "query,query_id,average_precision,inverse_negative_penalty,first_rank,num_positives",
        "0,a,0.75,0.5,1,2",
        "1,b,0.25,0.25,3,1",
        "2,c,,,0,0",
    ]


def test_table(result):
    assert result.table(ranks=(1, 3)) == (
        "        percent\n"
        "Rank-1    50.00\n"
        "Rank-3   100.00\n"
        "mAP       50.00\n"
        "mINP      37.50\n"
        "2 queries, 9 gallery, 1 queries without a match left out"
    )

    shown = measured().table(ranks=(1,), confidence=0.9).splitlines()
    low, high = measured().interval("mean_ap", confidence=0.9)[1:]

    assert shown[0].endswith("90 % interval")
    assert shown[2].endswith(f"{100 * low:.2f} to {100 * high:.2f}")


def test_evaluation_keeps_the_ids():
    rows = np.eye(3)
    result = evaluate_reid(rows, rows, query_ids=["a", "b", "c"], gallery_ids=["c", "b", "a"])

    assert result.query_ids.tolist() == ["a", "b", "c"]
    assert "interval" in result.table()

    evaluator = ReidEvaluator()
    for start in (0, 2):
        evaluator.update(
            torch.eye(3)[start : start + 2], [7, 8, 9][start : start + 2], split="query"
        )

    evaluator.update(torch.eye(3), [9, 8, 7], split="gallery")
    assert evaluator.compute().query_ids.tolist() == [7, 8, 9]


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("column", "values", "error"),
    [
        ("average_precision", [-0.5, 1.0, None], r"average_precision in \[0, 1\] for queries with"),
        ("average_precision", [1.5, 1.0, None], r"average_precision in \[0, 1\] for queries with"),
        ("average_precision", [0.5, None, None], r"average_precision in \[0, 1\] for queries with"),
        ("average_precision", [0.5, 1.0, 0.5], r"average_precision in \[0, 1\] for queries with"),
        ("average_precision", ["0.5", 1.0, None], "average_precision as numbers, got '0.5'"),
        ("inverse_negative_penalty", [2, 1.0, None], r"inverse_negative_penalty in \[0, 1\] for"),
        ("first_rank", [0, 1, 0], "first_rank >= 1 for queries with a match, and 0 for the others"),
        ("first_rank", [1, 1, 2], "first_rank >= 1 for queries with a match, and 0 for the others"),
        ("first_rank", ["1", 1, 0], "first_rank as numbers, got '1'"),
        ("num_positives", [1, -1, 0], "num_positives as a whole number >= 0, got -1"),
        ("num_positives", [1, 1.5, 0], "num_positives as a whole number >= 0, got 1.5"),
        ("num_positives", [1, 2**63, 0], r"num_positives as numbers of at most 2\^53, got 92233"),
        ("first_rank", [None, 1, 0], "first_rank as numbers, got null"),
        ("first_rank", [10**400, 1, 0], r"first_rank as numbers of at most 2\^53, got an integer"),
        ("average_precision", [-(10**400), 1.0, None], "average_precision as numbers of at most"),
    ],
)
def test_json_with_numbers_that_no_result_has_is_an_error(column, values, error):
    columns = {
        "average_precision": [0.5, 1.0, None],
        "inverse_negative_penalty": [0.5, 1.0, None],
        "first_rank": [2, 1, 0],
        "num_positives": [1, 1, 0],
    }
    sizes = {"num_gallery": 4, "max_rank": 4}
    assert ReidResult.from_json(json.dumps({"per_query": columns, **sizes})).mean_ap == 0.75

    columns[column] = values
    with pytest.raises(ValueError, match=f"ReidResult.from_json: expected {error}"):
        ReidResult.from_json(json.dumps({"per_query": columns, **sizes}))


def test_json_with_a_wrong_size_or_no_json_is_an_error():
    with pytest.raises(ValueError, match=r"ReidResult\.from_json: the text is not JSON"):
        ReidResult.from_json("{")

    columns = {"average_precision": [], "inverse_negative_penalty": []}
    columns |= {"first_rank": [], "num_positives": []}
    with pytest.raises(ValueError, match="max_rank as a whole number >= 1, got -1"):
        ReidResult.from_json(json.dumps({"per_query": columns, "num_gallery": 4, "max_rank": -1}))

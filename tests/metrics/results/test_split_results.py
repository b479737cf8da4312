import csv
import json
import math

import numpy as np
import pytest

from clipreid_kit import ReidResult, SplitResults


def result(ap, rank, num_queries=1):
    values = np.full(num_queries, ap)
    ids = np.arange(num_queries)
    ones = np.ones(num_queries, dtype=np.int64)

    return ReidResult(values, values, rank * ones, ones, 4, 4, ids)


@pytest.fixture
def both():
    return SplitResults(
        (result(1.0, 1), result(0.5, 2)), "two galleries", (np.array([5]), np.array([6]))
    )


def test_mean_and_spread(both):
    assert (both.mean_ap, both.mean_inp, both.rank(1), both.rank(2)) == (0.75, 0.75, 0.5, 1)
    assert both.std("mean_ap") == pytest.approx(math.sqrt(0.125))
    assert both.std("rank", 1) == pytest.approx(math.sqrt(0.5))
    assert both.cmc.tolist() == [0.5, 1, 1, 1]
    assert both.num_splits == 2


def test_json_is_plain_and_a_single_split_has_no_spread(both):
    values = json.loads(both.to_json(ranks=(1,)))
    assert values == both.to_dict(ranks=(1,))
    assert values["protocol"] == "two galleries"
    assert values["mean"] == {"rank_1": 0.5, "mean_ap": 0.75, "mean_inp": 0.75}
    assert values["splits"][1]["mean_ap"] == 0.5

    single = SplitResults(both.results[:1], "one")
    assert math.isnan(single.std("mean_ap"))
    assert json.loads(single.to_json())["std"]["mean_ap"] is None
    assert "-" in single.table()
    assert "±" not in str(single)


def test_table(both):
    assert both.table(ranks=(1,)) == (
        "         mean    std    min     max\n"
        "Rank-1  50.00  70.71   0.00  100.00\n"
        "mAP     75.00  35.36  50.00  100.00\n"
        "mINP    75.00  35.36  50.00  100.00\n"
        "two galleries; 1 queries, 4 gallery"
    )
    assert repr(both) == str(both)
    assert str(both).startswith("Rank-1 50.00  Rank-5 100.00  Rank-10 100.00  mAP 75.00 ± 35.36")


def test_rows_of_all_splits(both, tmp_path):
    both.write_csv(tmp_path / "queries.csv")
    rows = list(csv.DictReader((tmp_path / "queries.csv").read_text().splitlines()))

    assert [(row["split"], row["query"], row["average_precision"]) for row in rows] == [
        ("0", "5", "1.0"),
        ("1", "6", "0.5"),
    ]


def test_counts_of_unequal_splits():
    odd = SplitResults((result(1.0, 1), result(0.5, 2, num_queries=3)), "odd")
    assert "odd; 1 to 3 queries, 4 gallery" in odd.table()
    assert odd.mean_ap == 0.75  # splits have equal weights, however many queries they have


@pytest.mark.unhooked
def test_bad_input(both):
    with pytest.raises(
        ValueError, match="results are empty; pass the result of at least one split"
    ):
        SplitResults((), "nothing")

    with pytest.raises(ValueError, match="query_rows of 2 splits, or of none, got 1"):
        SplitResults(both.results, "x", (np.array([0]),))
    with pytest.raises(ValueError, match="measure to be one of mean_ap"):
        both.values("accuracy")
    with pytest.raises(ValueError, match="measure 'rank' needs a k"):
        both.values("rank")
    with pytest.raises(ValueError, match="measure 'mean_ap' takes no k"):
        both.std("mean_ap", 3)

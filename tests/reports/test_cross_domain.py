import pytest

from clipreid_kit.reports import cross_domain_table


def tasks(rank_1, mean_ap):
    return {"image_to_image.splits": {"rank_1": rank_1, "mean_ap": mean_ap}, "text_to_image": {}}


def test_rows_are_training_sets_and_columns_test_sets():
    results = {
        "a": {"a": [tasks(0.9, 0.8), tasks(0.7, 0.6)], "b": [tasks(0.5, 0.4)] * 2},
        "b_c": {"a": [tasks(0.3, 0.2)], "b": [tasks(1.0, 1.0)]},
    }
    text = cross_domain_table(results)
    assert "| trained on | a, Rank-1 | a, mAP | b, Rank-1 | b, mAP |" in text
    assert "| a | 80.00 ± 14.14 | 70.00 ± 14.14 | 50.00 ± 0.00 | 40.00 ± 0.00 |" in text
    assert r"| b\_c | 30.00 | 20.00 | 100.00 | 100.00 |" in text
    assert "mean ± standard deviation" in text
    assert r"b\_c & 30.00" in cross_domain_table(results, "latex")
    assert "<title>Cross-domain results</title>" in cross_domain_table(results, "html")


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({}, "at least one result, got none"),
        ({"a": {"a": [tasks(1, 1)]}, "b": {}}, "results of b on a, got none"),
        ({"a": {"b": [{"text_to_image": {}}]}}, "result of a on b, got text_to_image"),
    ],
)
def test_what_is_missing_is_named(results, message):
    with pytest.raises(ValueError, match=message):
        cross_domain_table(results)

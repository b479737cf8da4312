import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import ranks as oracle
from strategies import labelled_rows, two_sides

from clipreid_kit import evaluate_retrieval
from clipreid_kit.losses import RecallSurrogateLoss, recall_surrogate_loss


@given(labelled_rows(), st.sampled_from([[1], [1, 2, 4]]), st.sampled_from([0.3, 1.0]))
def test_equals_the_paper(batch, ks, rank_temperature):
    rows, labels = batch
    got = recall_surrogate_loss(
        rows.double(), labels, ks=ks, temperature=0.2, rank_temperature=rank_temperature
    ).item()
    lists = (rows.tolist(), labels.tolist(), None, None)
    want = oracle.recall_surrogate(*lists, ks, rank_temperature, 0.2)
    assert got == pytest.approx(want, rel=1e-4, abs=1e-4)
    assert 0 <= got < 1


@given(two_sides())
def test_against_a_contrast_set(sides):
    rows, labels, contrast, contrast_labels = sides
    got = recall_surrogate_loss(rows, labels, contrast, contrast_labels, temperature=0.3).item()
    lists = (rows.tolist(), labels.tolist(), contrast.tolist(), contrast_labels.tolist())
    want = oracle.recall_surrogate(*lists, [1, 2, 4, 8, 16], 1.0, 0.3)
    assert got == pytest.approx(want, rel=1e-4, abs=1e-5)


@given(labelled_rows(), st.integers(1, 5))
def test_the_order_of_the_rows_and_of_the_ks_does_not_count(batch, k):
    rows, labels = batch[0].double(), batch[1]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    first = recall_surrogate_loss(rows, labels, ks=[k, 2])
    second = recall_surrogate_loss(5 * rows[order], labels[order], ks=[2, k])
    torch.testing.assert_close(first, second)


def test_it_tends_to_the_hit_rate_where_each_query_has_one_match():
    generator = torch.Generator().manual_seed(0)
    rows, contrast = torch.randn(2, 20, 8, generator=generator).double()
    labels = torch.arange(20)

    result = evaluate_retrieval(rows, contrast, query_ids=labels, gallery_ids=labels)
    for k in (1, 5):
        # A match of rank k has a recall@k of a half.
        loss = recall_surrogate_loss(
            rows, labels, contrast, labels, ks=[k], temperature=1e-6, rank_temperature=0.01
        )
        half = 0.5 * (result.hit_rate(k) - (result.hit_rate(k - 1) if k > 1 else 0.0))
        assert loss.item() == pytest.approx(1 - result.hit_rate(k) + half, abs=1e-4)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ks": []}, r"ks as a sequence of whole numbers, got \[\]"),
        ({"ks": [0]}, "k as a whole number >= 1, got 0"),
        ({"ks": 3}, "ks as a sequence of whole numbers, got 3"),
        ({"temperature": 0}, "temperature > 0, got 0"),
        ({"rank_temperature": -1}, "rank_temperature > 0, got -1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=f"RecallSurrogateLoss: expected {message}"):
        RecallSurrogateLoss(**options)

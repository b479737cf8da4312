import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import losses as oracle
from strategies import labelled_rows

from clipreid_kit.losses import TripletLoss, triplet_loss


def test_hand_computed():
    rows, labels = torch.tensor([[0.0], [1.0], [3.0], [3.5]]), torch.tensor([0, 0, 1, 1])
    # gaps (farthest positive - nearest negative): 1-3, 1-2, .5-2, .5-2.5
    assert triplet_loss(rows, labels, margin=2.0).item() == pytest.approx((0 + 1 + 0.5 + 0) / 4)


@given(
    labelled_rows(),
    st.sampled_from([0.3, 0.0, 1.0, None]),
    st.sampled_from(["hardest", "semi_hard", "all"]),
    st.sampled_from(["euclidean", "cosine"]),
)
def test_equals_the_paper(sample, margin, mining, distance):
    rows, labels = sample
    # float64: which triplets count is decided by comparisons, and the oracle compares in float64
    got = triplet_loss(rows.double(), labels, margin=margin, mining=mining, distance=distance)
    want = oracle.triplet(rows.tolist(), labels.tolist(), margin, mining, distance)
    assert got.item() == pytest.approx(want, rel=1e-4, abs=1e-5)


def test_near_duplicates_keep_their_digits():
    rows = torch.tensor([[1000.0, 0.0], [1000.0, 0.001], [1000.0, 0.004], [1000.0, 0.0]]).double()
    labels = torch.tensor([0, 0, 1, 1])
    want = oracle.triplet(rows.tolist(), labels.tolist(), 0.01)
    assert triplet_loss(rows.float(), labels, margin=0.01).item() == pytest.approx(want, rel=1e-3)


def test_unequal_numbers_of_images():
    rows, labels = torch.randn(7, 4), torch.tensor([0, 0, 0, 0, 1, 1, 2])
    want = oracle.triplet(rows.tolist(), labels.tolist(), 0.3)
    assert TripletLoss()(rows, labels).item() == pytest.approx(want, rel=1e-4)


def test_anchor_without_positive_takes_no_part():
    rows, labels = torch.randn(5, 4), torch.tensor([0, 0, 1, 1, 2])
    rows.requires_grad_(True)
    loss = triplet_loss(rows, labels, margin=100.0)
    assert loss.item() > 50  # an average over four anchors, not five with a zero
    assert loss.item() == pytest.approx(oracle.triplet(rows.tolist(), labels.tolist(), 100.0), rel=1e-4)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -0.1}, "margin >= 0.*soft margin.*got -0.1"),
        ({"mining": "easy"}, "mining to be one of hardest, semi_hard, all"),
        ({"distance": "l2"}, "distance to be one of euclidean, cosine"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        TripletLoss(**options)
    with pytest.raises(ValueError, match=message):
        triplet_loss(torch.zeros(2, 2), torch.zeros(2).long(), **options)

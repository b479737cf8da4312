import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import metric as oracle
from strategies import labelled_rows, two_sides

from clipreid_kit.losses import WeightedTripletLoss, triplet_loss, weighted_triplet_loss

DISTANCES = st.sampled_from(["euclidean", "cosine"])


def test_hand_computed():
    rows, labels = torch.tensor([[0.0], [2.0], [2.0]]), torch.tensor([0, 0, 1])
    # row 2 has no positive; row 0: 2 - 2; row 1: 2 - 0
    want = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert weighted_triplet_loss(rows, labels).item() == pytest.approx(want)


@given(labelled_rows(), DISTANCES)
def test_equals_the_paper(sample, distance):
    rows, labels = sample
    got = weighted_triplet_loss(rows.double(), labels, distance=distance).item()

    assert got == pytest.approx(
        oracle.weighted_triplet(rows.tolist(), labels.tolist(), None, None, distance), abs=1e-6
    )


@given(two_sides(), DISTANCES)
def test_equals_the_paper_across_modalities(sample, distance):
    sides = tuple(side.double() if side.is_floating_point() else side for side in sample)
    got = WeightedTripletLoss(distance=distance)(*sides).item()
    want = oracle.weighted_triplet(*(side.tolist() for side in sides), distance)
    assert got == pytest.approx(want, abs=1e-6)


@given(labelled_rows(min_rows=2), st.randoms())
def test_order_of_rows_does_not_matter(sample, random):
    rows, labels = sample[0].double(), sample[1]
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = weighted_triplet_loss(rows[order], labels[order])

    torch.testing.assert_close(shuffled, weighted_triplet_loss(rows, labels), rtol=1e-6, atol=1e-6)


def test_one_positive_and_one_negative_equal_the_soft_triplet_loss():
    images, texts = torch.randn(2, 4), torch.randn(2, 4)
    labels = torch.arange(2)
    want = triplet_loss(images, labels, texts, labels, margin=None)
    torch.testing.assert_close(weighted_triplet_loss(images, labels, texts, labels), want)


def test_long_rows_give_the_hardest_pairs_all_weight():
    rows, labels = 1e6 * torch.randn(12, 4).double(), torch.arange(12) // 3
    torch.testing.assert_close(
        weighted_triplet_loss(rows, labels), triplet_loss(rows, labels, margin=None)
    )


@pytest.mark.unhooked
def test_errors():
    with pytest.raises(
        ValueError, match="WeightedTripletLoss: expected distance to be one of euclidean, cosine"
    ):
        WeightedTripletLoss(distance="l1")

    with pytest.raises(
        ValueError, match="weighted_triplet_loss: expected distance to be one of euclidean, cosine"
    ):
        weighted_triplet_loss(torch.zeros(2, 2), torch.zeros(2).long(), distance="l1")

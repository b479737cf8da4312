import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import metric as oracle
from strategies import labelled_rows, two_sides

from clipreid_kit.losses import MultiSimilarityLoss, multi_similarity_loss

OPTIONS = (
    st.sampled_from([1.0, 2.0]),
    st.sampled_from([10.0, 50.0]),
    st.sampled_from([0.5, 0.0, 1.0]),
    st.sampled_from([0.1, 0.01, 0.5, None]),  # (with 0 rounding decides about rows that coincide)
)


def test_hand_computed():
    rows, labels = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.tensor([0, 0, 1])
    options = {"positive_scale": 1.0, "negative_scale": 1.0, "threshold": 0.5}

    # row 0: the positive at 0.6, the negative at 0; row 1: 0.6 and 0.8; row 2 has no positive
    every = [math.log(1 + math.exp(s)) for s in (-0.1, -0.5, -0.1, 0.3)]
    loss = multi_similarity_loss(rows, labels, epsilon=None, **options)

    assert loss.item() == pytest.approx(sum(every) / 2)

    # The pairs of row 0 keep their distance.
    mined = multi_similarity_loss(rows, labels, epsilon=0.1, **options)

    assert mined.item() == pytest.approx((every[2] + every[3]) / 2)


@given(labelled_rows(), *OPTIONS)
def test_equals_the_paper(sample, alpha, beta, base, epsilon):
    rows, labels = sample

    # float64: which pairs count is decided by comparisons, and the oracle compares in float64
    got = MultiSimilarityLoss(alpha, beta, base, epsilon=epsilon)(rows.double(), labels).item()
    want = oracle.multi_similarity(
        rows.tolist(), labels.tolist(), None, None, alpha, beta, base, epsilon
    )

    assert got == pytest.approx(want, rel=1e-6, abs=1e-6)


@given(two_sides(), *OPTIONS)
def test_equals_the_paper_across_modalities(sample, alpha, beta, base, epsilon):
    sides = tuple(side.double() if side.is_floating_point() else side for side in sample)
    got = MultiSimilarityLoss(alpha, beta, base, epsilon=epsilon)(*sides).item()
    want = oracle.multi_similarity(*(side.tolist() for side in sides), alpha, beta, base, epsilon)
    assert got == pytest.approx(want, rel=1e-6, abs=1e-6)


@given(labelled_rows(min_rows=2), st.floats(0.1, 10.0), st.randoms())
def test_neither_order_nor_length_of_rows_matters(sample, factor, random):
    rows, labels = sample[0].double(), sample[1]
    order = list(range(len(rows)))
    random.shuffle(order)

    torch.testing.assert_close(
        multi_similarity_loss(factor * rows[order], labels[order], epsilon=0.123),
        multi_similarity_loss(rows, labels, epsilon=0.123),
    )


@given(labelled_rows(min_rows=4))
def test_more_slack_never_lowers_the_loss(sample):
    losses = [
        multi_similarity_loss(*sample, epsilon=epsilon).item() for epsilon in (0.0, 0.1, 1.0, None)
    ]
    assert all(low <= high + 1e-6 for low, high in pairwise(losses))


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positive_scale": 0.0}, "positive_scale > 0, got 0.0"),
        ({"negative_scale": -1.0}, "negative_scale > 0, got -1.0"),
        ({"threshold": 1.5}, "threshold between -1 and 1, a cosine similarity, got 1.5"),
        ({"epsilon": -0.1}, "epsilon >= 0 .None takes every pair., got -0.1"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match="MultiSimilarityLoss: expected " + message):
        MultiSimilarityLoss(**options)
    with pytest.raises(ValueError, match="multi_similarity_loss: expected " + message):
        multi_similarity_loss(torch.zeros(2, 2), torch.zeros(2).long(), **options)

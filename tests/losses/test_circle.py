import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import metric as oracle
from strategies import labelled_rows, two_sides

from clipreid_kit.losses import CircleLoss, circle_loss

OPTIONS = (st.sampled_from([0.1, 0.25, 0.4]), st.sampled_from([1.0, 32.0, 256.0]))


def test_hand_computed():
    rows, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), torch.tensor([0, 0, 1])

    # margin 0.5, scale 1: row 0 has s_p 0, s_n -1, so alpha_p 1.5 and alpha_n 0: 1.5 x 0.5 + 0
    # row 1 has s_p 0, s_n 0, so alpha_n 0.5: 0.75 - 0.25
    want = (math.log(1 + math.exp(0.75)) + math.log(1 + math.exp(0.5))) / 2

    assert circle_loss(rows, labels, margin=0.5, scale=1.0).item() == pytest.approx(want)


@given(labelled_rows(), *OPTIONS)
def test_equals_the_paper(sample, margin, scale):
    rows, labels = sample
    want = oracle.circle(rows.tolist(), labels.tolist(), None, None, margin, scale)

    assert circle_loss(rows, labels, margin=margin, scale=scale).item() == pytest.approx(
        want, rel=1e-4, abs=1e-4
    )


@given(two_sides(), *OPTIONS)
def test_equals_the_paper_across_modalities(sample, margin, scale):
    want = oracle.circle(*(side.tolist() for side in sample), margin, scale)
    assert CircleLoss(margin, scale)(*sample).item() == pytest.approx(want, rel=1e-4, abs=1e-4)


def test_the_gradient_keeps_the_weights_fixed_as_in_the_paper():
    rows, labels = torch.randn(6, 3).double().requires_grad_(), torch.tensor([0, 0, 1, 1, 1, 2])
    circle_loss(rows, labels, margin=0.25, scale=8.0).backward()
    at, step = rows.tolist(), 1e-6

    for i in range(6):
        for j in range(3):
            moved = [[[*row] for row in at] for _ in range(2)]
            moved[0][i][j] += step
            moved[1][i][j] -= step
            up, down = (
                oracle.circle(m, labels.tolist(), None, None, 0.25, 8.0, weighed_at=at)
                for m in moved
            )

            assert rows.grad[i, j].item() == pytest.approx(
                (up - down) / (2 * step), rel=1e-4, abs=1e-6
            )


@given(labelled_rows(min_rows=2), st.floats(0.1, 10.0), st.randoms())
def test_neither_order_nor_length_of_rows_matters(sample, factor, random):
    rows, labels = sample
    order = list(range(len(rows)))
    random.shuffle(order)

    torch.testing.assert_close(
        circle_loss(factor * rows[order], labels[order]),
        circle_loss(rows, labels),
        rtol=1e-4,
        atol=1e-3,
    )


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": 0.0}, "margin between 0 and 1, in units of cosine similarity, got 0.0"),
        ({"margin": 1.0}, "margin between 0 and 1"),
        ({"scale": -1.0}, "scale > 0, got -1.0"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match="CircleLoss: expected " + message):
        CircleLoss(**options)
    with pytest.raises(ValueError, match="circle_loss: expected " + message):
        circle_loss(torch.zeros(2, 2), torch.zeros(2).long(), **options)

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracles import heads as oracle
from strategies import labelled_rows

from clipreid_kit.losses import CircleSoftmaxHead, circle_loss, circle_softmax_logits

WEIGHT = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


@given(labelled_rows(), st.floats(0.1, 0.9), st.floats(1.0, 256.0))
def test_equals_the_paper(sample, margin, scale):
    rows, labels = sample[0].double(), sample[1]
    weight = WEIGHT.double()
    options = {"scale": scale, "margin": margin}
    want = oracle.circle_softmax_logits(rows.tolist(), labels.tolist(), weight.tolist(), **options)

    got = circle_softmax_logits(rows, labels, weight, **options)
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


@given(labelled_rows(min_rows=1))
def test_its_cross_entropy_is_the_circle_loss_against_the_weights(sample):
    rows, labels = sample[0].double(), sample[1]
    weight = WEIGHT.double()
    logits = circle_softmax_logits(rows, labels, weight, scale=16.0, margin=0.3)
    want = circle_loss(rows, labels, weight, torch.arange(4), scale=16.0, margin=0.3)
    torch.testing.assert_close(F.cross_entropy(logits, labels), want)


def test_the_factors_carry_no_gradient():
    rows = torch.tensor([[0.6, 0.8]], dtype=torch.float64, requires_grad=True)
    logits = circle_softmax_logits(
        rows, torch.tensor([0]), torch.eye(2, dtype=torch.float64), scale=1.0, margin=0.25
    )
    (gradient,) = torch.autograd.grad(logits[0, 1], rows)

    # Scale (s + m) times the slope of the cosine with (0, 1): (0, 1) less 0.8 times the row.
    want = 1.05 * (torch.tensor([0.0, 1.0]) - 0.8 * torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(gradient[0], want.double())


def test_at_test_time_there_are_scaled_cosines():
    head = CircleSoftmaxHead(5, 4, scale=10.0)
    rows = WEIGHT[:2] * 3
    torch.testing.assert_close(
        head(rows), 10 * F.normalize(rows) @ F.normalize(head.weight).T, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": 1.0}, "margin between 0 and 1, in units of cosine similarity, got 1"),
        ({"margin": 0.0}, "margin between 0 and 1"),
        ({"scale": 0.0}, "scale > 0, got 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        CircleSoftmaxHead(5, 4, **options)
    with pytest.raises(ValueError, match=message):
        circle_softmax_logits(WEIGHT, torch.arange(4), WEIGHT, **options)

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracles import heads as oracle
from strategies import labelled_rows

from clipreid_kit.losses import CosFaceLoss, arcface_loss, cosface_logits, cosface_loss

IDENTITIES, DIM = 4, 5


def weights(rows=IDENTITIES, seed=0):
    return torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed))


def test_hand_computed():
    rows, labels = torch.tensor([[3.0, 4.0]]), torch.tensor([1])
    logits = cosface_logits(rows, labels, torch.eye(2), scale=10.0, margin=0.2)

    assert logits[0].tolist() == pytest.approx([6.0, 6.0])
    assert cosface_loss(rows, labels, torch.eye(2), scale=10.0, margin=0.2).item() == pytest.approx(
        math.log(2)
    )
    assert cosface_logits(rows, None, torch.eye(2), scale=10.0)[0].tolist() == pytest.approx(
        [6.0, 8.0]
    )


@given(labelled_rows(), st.floats(0, 1), st.sampled_from([1, 3]), st.sampled_from([0.0, 0.1]))
def test_equals_the_paper(sample, margin, num_centers, smoothing):
    rows, labels = sample[0].double(), sample[1]
    weight = weights(IDENTITIES * num_centers).double()
    options = {"scale": 16.0, "margin": margin, "num_centers": num_centers}
    want = oracle.cosface_logits(rows.tolist(), labels.tolist(), weight.tolist(), **options)

    torch.testing.assert_close(
        cosface_logits(rows, labels, weight, **options), torch.tensor(want, dtype=torch.float64)
    )

    loss = cosface_loss(rows, labels, weight, label_smoothing=smoothing, **options)

    assert loss.item() == pytest.approx(
        oracle.cross_entropy(want, labels.tolist(), smoothing), rel=1e-6, abs=1e-6
    )


@given(labelled_rows(), st.sampled_from([1, 3]), st.sampled_from([0.0, 0.1]), st.floats(0, 1))
def test_the_gradient_equals_that_of_autograd(sample, num_centers, smoothing, margin):
    rows, labels = sample[0].double().requires_grad_(), sample[1]
    weight = weights(IDENTITIES * num_centers).double().requires_grad_()
    options = {"scale": 8.0, "margin": margin, "num_centers": num_centers}
    logits = cosface_logits(rows, labels, weight, **options)
    summed = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")
    want = torch.autograd.grad(summed / max(len(rows), 1), [rows, weight])
    got = torch.autograd.grad(
        cosface_loss(rows, labels, weight, label_smoothing=smoothing, **options), [rows, weight]
    )

    torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-7)


@given(labelled_rows())
def test_without_margins_both_heads_are_the_normalised_softmax(sample):
    rows, labels = sample
    want = F.cross_entropy(10 * F.normalize(rows) @ F.normalize(weights()).T, labels).item()

    for loss in (cosface_loss, arcface_loss):
        assert loss(rows, labels, weights(), scale=10.0, margin=0.0).item() == pytest.approx(
            want, rel=1e-5, abs=1e-6
        )


@given(labelled_rows(), st.floats(0.1, 10))
def test_ignores_order_and_scale(sample, scale):
    rows, labels = sample
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(len(rows)))
    want = cosface_loss(rows, labels, weights()).item()

    assert cosface_loss(
        rows[order] * scale, labels[order], weights() / scale
    ).item() == pytest.approx(want, rel=1e-4, abs=1e-4)


def test_the_loss_is_the_cross_entropy_of_its_head():
    loss = CosFaceLoss(DIM, IDENTITIES, 20.0, 0.3, num_centers=2, label_smoothing=0.1)
    rows, labels = weights(6, seed=3), torch.tensor([0, 1, 2, 3, 3, 0])
    want = F.cross_entropy(loss.head(rows, labels), labels, label_smoothing=0.1)

    assert loss(rows, labels).item() == pytest.approx(want.item(), rel=1e-6)
    assert list(loss.state_dict()) == ["head.weight"]
    assert loss.head.weight.shape == (8, DIM)
    assert "margin=0.3, num_centers=2" in repr(loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -0.1}, "CosFaceLoss: expected margin >= 0"),
        ({"scale": math.inf}, "scale > 0"),
        ({"num_centers": 0}, "num_centers as a whole number >= 1"),
        ({"dim": 0}, "dim as a whole number >= 1"),
        ({"label_smoothing": -0.1}, r"label_smoothing in \[0, 1\)"),
        ({"sparse_grad": True}, "sparse_grad needs num_sampled"),
        ({"num_sampled": 5}, "num_sampled <= 4"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        CosFaceLoss(**({"dim": DIM, "num_identities": IDENTITIES} | options))


@pytest.mark.unhooked
@pytest.mark.parametrize("call", [cosface_logits, cosface_loss])
def test_wrong_arguments(call):
    with pytest.raises(
        ValueError, match=f"{call.__name__}: expected embeddings and weight of one width"
    ):
        call(torch.zeros(2, 3), torch.tensor([0, 1]), weights())

    with pytest.raises(ValueError, match=f"{call.__name__}: expected labels as 2 integers"):
        call(torch.zeros(2, DIM), torch.tensor([0.0, 1.0]), weights())

    with pytest.raises(ValueError, match=f"{call.__name__}: expected margin >= 0"):
        call(torch.zeros(2, DIM), torch.tensor([0, 1]), weights(), margin=-1.0)

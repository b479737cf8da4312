import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracles import heads as oracle
from strategies import labelled_rows

from clipreid_kit.losses import IdentityLoss, identity_loss

OPTIONS = [
    {},
    {"label_smoothing": 0.1},
    {"adaptive_smoothing": 0.2},
    {"focal_gamma": 2.0},
    {"adaptive_smoothing": 0.3, "focal_gamma": 0.5},
    {"label_smoothing": 0.1, "focal_gamma": 1.0},
]


@given(labelled_rows(), st.sampled_from(OPTIONS))
def test_equals_the_papers(sample, options):
    logits, labels = sample[0].double() * 3, sample[1]
    want = oracle.identity_losses(
        logits.tolist(),
        labels.tolist(),
        options.get("label_smoothing", 0.0),
        options.get("adaptive_smoothing", 0.0),
        options.get("focal_gamma", 0.0),
    )

    values = identity_loss(logits, labels, reduction="none", **options)
    torch.testing.assert_close(values, torch.tensor(want, dtype=torch.float64))
    mean = IdentityLoss(**options)(logits, labels)
    assert mean.item() == pytest.approx(sum(want) / len(want))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_plain_one_is_torch_s_to_the_bit(smoothing):
    logits, labels = torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 4, 0])
    want = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    assert torch.equal(
        identity_loss(logits, labels, label_smoothing=smoothing, reduction="none"), want
    )


@pytest.mark.parametrize("options", [{"focal_gamma": 2.0}, {"focal_gamma": 0.5}])
def test_gradient_in_float64(options):
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 3, 3])
    assert torch.autograd.gradcheck(lambda z: identity_loss(z, labels, **options), (logits,))


def test_adaptive_smoothing_carries_no_gradient():
    logits = torch.tensor([[2.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0])
    probability = logits.softmax(dim=1)[0, 0].item()
    smoothing = 0.2 * probability

    adaptive = identity_loss(logits, labels, adaptive_smoothing=0.2)
    fixed = identity_loss(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(adaptive, fixed)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss, logits)[0] for loss in (adaptive, fixed))
    )


def test_a_row_that_is_right_beyond_doubt_has_no_loss_and_a_finite_gradient():
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    values = identity_loss(logits, torch.tensor([0, 0]), focal_gamma=0.5, reduction="none")
    values.sum().backward()

    assert values.tolist() == pytest.approx([0.0, 200.0])
    assert logits.grad.isfinite().all()


def test_half_precision_is_computed_in_float32():
    value = identity_loss(torch.randn(4, 7).bfloat16(), torch.tensor([0, 6, 3, 3]))
    assert value.dtype == torch.float32
    assert math.isfinite(value)


def test_no_rows():
    logits = torch.randn(0, 7, requires_grad=True)
    labels = torch.zeros(0, dtype=torch.long)
    loss = identity_loss(logits, labels, focal_gamma=2.0)
    assert loss == 0
    assert loss.requires_grad
    assert identity_loss(logits, labels, reduction="none").shape == (0,)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: IdentityLoss(0.1, adaptive_smoothing=0.2),
            "IdentityLoss: adaptive_smoothing takes the place of label_smoothing; set one of",
        ),
        (lambda: IdentityLoss(1.0), r"label_smoothing in \[0, 1\), got 1"),
        (lambda: IdentityLoss(adaptive_smoothing=-0.1), r"adaptive_smoothing in \[0, 1\), got -0"),
        (lambda: IdentityLoss(focal_gamma=-1), "focal_gamma >= 0, got -1"),
        (lambda: IdentityLoss(reduction="sum"), "reduction to be one of mean, none"),
        (lambda: identity_loss(torch.ones(2, 3), torch.tensor([0])), "labels as 2 integers"),
        (lambda: identity_loss(torch.ones(1, 3), torch.tensor([3])), r"labels in \[0, 3\)"),
        (lambda: identity_loss(torch.ones(3), torch.tensor([0])), "logits as a floating-point mat"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""On one process; on two it equals the dense heads in test_distributed.py."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from clipreid_kit import distributed
from clipreid_kit.losses import ArcFaceLoss, CosFaceLoss, PartialFCLoss, arcface_loss
from clipreid_kit.losses import partial_fc as module

ROWS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 0, 3, 4, 4, 9])


@pytest.mark.parametrize(("kind", "dense"), [("arcface", ArcFaceLoss), ("cosface", CosFaceLoss)])
def test_equals_the_dense_head(kind, dense):
    ours = PartialFCLoss(4, 10, 8.0, 0.3, kind=kind, label_smoothing=0.1)
    theirs = dense(4, 10, 8.0, 0.3, label_smoothing=0.1)
    theirs.head.load_state_dict({"weight": ours.weight.detach()})

    values = []
    for loss in (ours, theirs):
        value = loss(ROWS, LABELS)
        value.backward()
        values.append(value.detach())
    assert_close(*values)
    assert_close(ours.weight.grad, theirs.head.weight.grad, atol=1e-6, rtol=1e-4)


def test_gradient_in_float64():
    loss = PartialFCLoss(4, 10, 8.0, 0.3, label_smoothing=0.1).double()
    rows = ROWS.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: loss(rows, LABELS), (rows,))


def test_a_sample_holds_the_identities_of_the_batch():
    loss = PartialFCLoss(4, 30, num_sampled=12)
    value = loss(ROWS, LABELS)
    value.backward()
    drawn = (loss.weight.grad != 0).any(dim=1).nonzero()[:, 0]

    assert len(drawn) == 12
    assert set(LABELS.tolist()) <= set(drawn.tolist())
    labels = torch.searchsorted(drawn, LABELS)
    assert_close(value, arcface_loss(ROWS, labels, loss.weight[drawn]))


def test_samples_follow_seed_and_step_and_evaluation_takes_all():
    loss = PartialFCLoss(4, 30, num_sampled=12)
    first, second = (loss(ROWS, LABELS).item() for _ in range(2))
    assert first != second

    again = PartialFCLoss(4, 30, num_sampled=12)
    again.load_state_dict({**loss.state_dict(), "_extra_state": torch.tensor([30, 0, 30, 1])})
    assert again(ROWS, LABELS).item() == second

    assert_close(loss.eval()(ROWS, LABELS), arcface_loss(ROWS, LABELS, loss.weight))
    assert loss.step == 2


@given(num_identities=st.integers(7, 3000), num_ranks=st.integers(1, 7))
def test_the_initial_weight_does_not_depend_on_the_ranks(num_identities, num_ranks):
    whole = module._initial_rows(2, num_identities, 0, num_identities, seed=3)
    loss = PartialFCLoss(2, num_identities)
    loss.num_ranks = num_ranks
    spans = [loss._identities_of(rank) for rank in range(num_ranks)]
    parts = [module._initial_rows(2, num_identities, *span, seed=3) for span in spans]

    assert whole.shape == (num_identities, 2)
    assert torch.equal(torch.cat(parts), whole)


def test_a_group_that_came_later_is_refused(monkeypatch):
    loss = PartialFCLoss(4, 10)
    monkeypatch.setattr(module, "world_size", lambda: 2)
    with pytest.raises(ValueError, match=r"constructed for 1 .* and runs on 2\. Construct it"):
        loss(ROWS, LABELS)
    assert distributed.world_size() == 1


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PartialFCLoss(4, 10, kind="softmax"), "kind to be one of arcface, cosface"),
        (lambda: PartialFCLoss(4, 10, margin=4), "margin in .0, pi. radians, got 4"),
        (lambda: PartialFCLoss(4, 10, num_sampled=11), "num_sampled <= 10"),
        (lambda: PartialFCLoss(4, 10, seed=-1), "seed as a whole number >= 0"),
        (lambda: PartialFCLoss(4, 10)(torch.ones(2, 3), LABELS[:2]), "width 4, got 3"),
        (lambda: PartialFCLoss(4, 10)(ROWS, LABELS[:2]), "labels as 6 integers"),
        (lambda: PartialFCLoss(4, 10)(ROWS, LABELS + 4), "expected labels in .0, 10."),
        (
            lambda: PartialFCLoss(4, 10, num_sampled=5)(ROWS, LABELS),
            "each rank draws 5 identities, fewer than the 6 rows",
        ),
        (
            lambda: PartialFCLoss(4, 10).load_state_dict(PartialFCLoss(4, 9).state_dict()),
            "holds the identities 0 to 8 of 9, and this rank has 0 to 9 of 10",
        ),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import heads as oracle
from strategies import labelled_rows

from clipreid_kit.losses import ProxyAnchorLoss, proxy_anchor_loss

IDENTITIES, DIM = 4, 5


def proxies(seed=0):
    return torch.randn(IDENTITIES, DIM, generator=torch.Generator().manual_seed(seed))


def test_hand_computed():
    # both rows at their proxy, at right angles to the other: 1 + e^(-a (1 - m)) and 1 + e^(a m),
    # once for each proxy
    got = proxy_anchor_loss(torch.eye(2), torch.tensor([0, 1]), torch.eye(2), scale=2.0, margin=0.5)

    assert got.item() == pytest.approx(math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1)))

    # proxies without a row of theirs are no part of the first mean, and are part of the second
    got = proxy_anchor_loss(
        torch.eye(2)[:1], torch.tensor([0]), torch.eye(2), scale=2.0, margin=0.5
    )

    assert got.item() == pytest.approx(math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1)) / 2)


@given(labelled_rows(), st.sampled_from([1.0, 32.0, 200.0]), st.floats(0, 1))
def test_equals_the_paper(sample, scale, margin):
    rows, labels = sample[0].double(), sample[1]
    got = proxy_anchor_loss(rows, labels, proxies().double(), scale=scale, margin=margin)
    want = oracle.proxy_anchor(rows.tolist(), labels.tolist(), proxies().tolist(), scale, margin)
    assert got.item() == pytest.approx(want, rel=1e-6)


@given(labelled_rows(), st.permutations(range(IDENTITIES)), st.floats(0.01, 100))
def test_ignores_order_names_and_scale(sample, names, scale):
    rows, labels = sample
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(len(rows)))
    renamed = torch.empty(IDENTITIES, DIM)
    renamed[torch.tensor(names)] = proxies()
    got = proxy_anchor_loss(
        rows[order] * scale, torch.tensor(names)[labels[order]], renamed / scale
    )

    assert got.item() == pytest.approx(
        proxy_anchor_loss(rows, labels, proxies()).item(), rel=1e-4, abs=1e-4
    )


def test_the_gradient_equals_finite_differences():
    rows = torch.randn(6, DIM, dtype=torch.float64, requires_grad=True)
    weight = proxies().double().requires_grad_()
    labels = torch.tensor([0, 0, 1, 2, 2, 2])

    assert torch.autograd.gradcheck(
        lambda r, w: proxy_anchor_loss(r, labels, w, scale=5.0), (rows, weight)
    )


def test_a_large_scale_does_not_overflow():
    rows = torch.eye(DIM)[:2].requires_grad_()
    loss = proxy_anchor_loss(rows, torch.tensor([1, 0]), torch.eye(DIM), scale=1e4, margin=0.5)

    # each proxy is wrong by 0 - 0.5 for its own row and by 1 + 0.5 for the other's; three proxies
    # only by 0 + 0.5
    assert loss.item() == pytest.approx(1e4 * (0.5 + (2 * 1.5 + 3 * 0.5) / 5), rel=1e-3)

    loss.backward()

    assert rows.grad.isfinite().all()


def test_a_single_identity_has_no_negatives():
    rows = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = proxy_anchor_loss(
        rows, torch.tensor([0]), torch.tensor([[0.6, 0.8]]), scale=1.0, margin=0.1
    )

    assert loss.item() == pytest.approx(math.log(1 + math.exp(-0.5)))  # and nothing to push away

    loss.backward()

    assert rows.grad.isfinite().all()


def test_the_module_holds_the_proxies():
    loss = ProxyAnchorLoss(DIM, IDENTITIES, 16.0, 0.2)
    rows, labels = torch.randn(6, DIM), torch.tensor([0, 1, 2, 3, 3, 0])

    assert list(loss.state_dict()) == ["weight"]

    want = proxy_anchor_loss(rows, labels, loss.weight, scale=16.0, margin=0.2)

    assert torch.equal(loss(rows, labels), want)
    assert "dim=5, num_identities=4, scale=16.0, margin=0.2" in repr(loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -0.1}, "ProxyAnchorLoss: expected margin >= 0"),
        ({"scale": 0.0}, "ProxyAnchorLoss: expected scale > 0"),
        ({"dim": 0}, "dim as a whole number >= 1"),
        ({"num_identities": 0}, "num_identities as a whole number >= 1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        ProxyAnchorLoss(**({"dim": DIM, "num_identities": IDENTITIES} | options))


@pytest.mark.unhooked
def test_wrong_arguments():
    with pytest.raises(
        ValueError, match="proxy_anchor_loss: expected embeddings and weight of one width"
    ):
        proxy_anchor_loss(torch.zeros(2, 3), torch.tensor([0, 1]), proxies())

    with pytest.raises(ValueError, match="proxy_anchor_loss: expected margin >= 0"):
        proxy_anchor_loss(torch.zeros(2, DIM), torch.tensor([0, 1]), proxies(), margin=-1.0)

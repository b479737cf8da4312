"""What the losses that go through blocks of anchors have in common."""

import pytest
import torch

from clipreid_kit.losses import (
    circle_loss,
    multi_similarity_loss,
    weighted_triplet_loss,
)
from clipreid_kit.losses._engine import anchorwise
from clipreid_kit.losses._engine.anchorwise import logsumexp_and_softmax
from clipreid_kit.losses.triplet import triplet_loss

LOSSES = {
    "hardest": lambda *sides: triplet_loss(*sides, margin=1.0),
    "hardest cosine": lambda *sides: triplet_loss(*sides, margin=1.0, distance="cosine"),
    "semi-hard": lambda *sides: triplet_loss(*sides, margin=5.0, mining="semi_hard"),
    "all": lambda *sides: triplet_loss(*sides, margin=1.0, mining="all"),
    "all soft": lambda *sides: triplet_loss(*sides, margin=None, mining="all", distance="cosine"),
    "weighted": weighted_triplet_loss,
    "circle": circle_loss,
    "multi-similarity": multi_similarity_loss,
}


@pytest.fixture(params=LOSSES, ids=str)
def loss(request):
    return LOSSES[request.param]


def sides(across):
    rows, labels = torch.randn(13, 4).double().requires_grad_(), torch.arange(13) // 3
    if not across:
        return rows, labels
    return rows, labels, torch.randn(9, 4).double().requires_grad_(), torch.arange(9) // 2


@pytest.mark.parametrize("across", [False, True], ids=["one modality", "two"])
@pytest.mark.parametrize("block", [1, 30, 117, 1000])
def test_size_of_blocks_changes_nothing(loss, across, block, monkeypatch):
    given = sides(across)
    leaves = [side for side in given if side.requires_grad]
    whole = loss(*given)
    want = torch.autograd.grad(whole, leaves)
    monkeypatch.setattr(anchorwise, "BLOCK_ELEMENTS", block)
    blocks = loss(*given)

    torch.testing.assert_close(blocks, whole)
    torch.testing.assert_close(torch.autograd.grad(blocks, leaves), want)


def test_a_contrast_of_the_same_rows_only_adds_the_diagonal():
    rows, labels = torch.randn(6, 4), torch.arange(6) // 2
    # an anchor's nearest positive is itself then, and its hardest one is not
    torch.testing.assert_close(triplet_loss(rows, labels, rows, labels), triplet_loss(rows, labels))


@pytest.mark.parametrize("frozen", [0, 2])
def test_a_frozen_side_gets_no_gradient_and_changes_none(loss, frozen):
    given = list(sides(across=True))
    both = torch.autograd.grad(loss(*given), (given[0], given[2]))
    given[frozen] = given[frozen].detach()
    value = loss(*given)
    (alone,) = torch.autograd.grad(value, given[2 - frozen])

    torch.testing.assert_close(alone, both[1 - frozen // 2])


def test_without_gradient_the_value_is_the_same(loss):
    rows, labels = sides(across=False)

    with torch.no_grad():
        value = loss(rows, labels)

    assert not value.requires_grad
    assert torch.equal(value, loss(rows, labels).detach())


def test_second_derivative_is_refused(loss):
    rows, labels = sides(across=False)

    with pytest.raises(
        RuntimeError, match=r"no second derivative. Take its gradient without create_graph"
    ):
        torch.autograd.grad(loss(rows, labels), rows, create_graph=True)


def test_rows_of_two_precisions(loss):
    images, labels, texts, text_labels = sides(across=True)
    mixed = loss(images.float(), labels, texts, text_labels)

    assert mixed.dtype == torch.float64
    torch.testing.assert_close(
        mixed, loss(images, labels, texts, text_labels), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("empty", [0, 1])
def test_an_empty_side_gives_a_connected_zero(loss, empty):
    given = [
        torch.randn(3, 4, requires_grad=True),
        torch.arange(3),
        torch.randn(3, 4, requires_grad=True),
    ]
    given = [*given, torch.arange(3)]
    given[2 * empty] = torch.zeros(0, 4, requires_grad=True)
    given[2 * empty + 1] = torch.zeros(0, dtype=torch.long)
    value = loss(*given)
    value.backward()

    assert value.item() == 0
    assert given[0].grad is not None
    assert given[2].grad is not None


@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("name", ["hardest", "semi-hard", "circle"])
def test_compiled_gradients(name, monkeypatch):
    monkeypatch.setattr(anchorwise, "BLOCK_ELEMENTS", 15)  # two blocks
    torch._dynamo.reset()
    loss = LOSSES[name]
    rows = torch.randn(5, 3).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 1])
    (want,) = torch.autograd.grad(loss(rows, labels), rows)

    assert want.norm() > 0

    (got,) = torch.autograd.grad(
        torch.compile(loss, fullgraph=True, backend="aot_eager")(rows, labels), rows
    )

    torch.testing.assert_close(got, want)


def test_logsumexp_and_softmax():
    rows = torch.tensor(
        [[1.0, 2.0, -torch.inf], [-torch.inf, -torch.inf, -torch.inf], [1000.0, -1000.0, 0.0]]
    )
    value, share = logsumexp_and_softmax(rows)

    assert torch.equal(value, rows.logsumexp(dim=1))
    torch.testing.assert_close(share[[0, 2]], rows[[0, 2]].softmax(dim=1))
    assert share[1].eq(0).all()


@pytest.mark.unhooked
def test_errors(loss):
    rows, labels = torch.zeros(3, 2), torch.arange(3)

    with pytest.raises(
        ValueError, match=r"contrast is given without contrast_labels\. Give both for image-text"
    ):
        loss(rows, labels, rows)

    with pytest.raises(ValueError, match="embeddings and contrast of one width"):
        loss(rows, labels, torch.zeros(3, 5), labels)

    with pytest.raises(ValueError, match="contrast_labels as 3 integers"):
        loss(rows, labels, rows, labels[:2])

    with pytest.raises(ValueError, match="labels as 3 integers"):
        loss(rows, labels[:2])

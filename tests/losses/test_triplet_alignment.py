import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import text_to_person as oracle
from strategies import two_sides

from clipreid_kit.losses import TripletAlignmentLoss, triplet_alignment_loss, triplet_loss


@given(two_sides(), st.sampled_from([0.0, 0.1, 2.0]), st.sampled_from([0.015, 0.5]))
def test_equals_the_paper(sides, margin, temperature):
    images, labels, texts, text_labels = sides
    options = {"margin": margin, "temperature": temperature}
    got = triplet_alignment_loss(images, texts, labels, text_labels, **options).item()

    want = oracle.triplet_alignment(
        images.tolist(), texts.tolist(), labels.tolist(), text_labels.tolist(), **options
    )
    assert got == pytest.approx(want, rel=1e-4, abs=1e-5)


@given(st.integers(2, 8), st.integers(0, 10_000))
def test_it_tends_to_the_triplet_loss_with_the_hardest_negatives(num_rows, seed):
    generator = torch.Generator().manual_seed(seed)
    images, texts = torch.randn(2, num_rows, 4, generator=generator)
    labels = torch.arange(num_rows)

    def hardest(anchors, others):
        return triplet_loss(anchors, labels, others, labels, margin=0.3, distance="cosine")

    want = hardest(images, texts) + hardest(texts, images)
    got = triplet_alignment_loss(images, texts, margin=0.3, temperature=1e-4)
    assert got.item() == pytest.approx(want.item(), rel=1e-3, abs=1e-3)

    # It is an upper bound, which grows with the temperature.
    softer = triplet_alignment_loss(images, texts, margin=0.3, temperature=0.1)
    assert softer.item() >= got.item() - 1e-5


def test_a_row_without_negatives_has_no_loss():
    images, texts = torch.randn(2, 4, 3)
    assert triplet_alignment_loss(images, texts, torch.zeros(4, dtype=torch.long)).item() == 0


def test_the_weights_of_the_positives_carry_no_gradient():
    images = torch.eye(3)[:1].requires_grad_()
    texts = torch.tensor([[0.8, 0.6, 0.0], [0.6, 0.0, 0.8], [0.0, 1.0, 0.0]])
    labels = torch.tensor([0, 0, 1])
    loss = triplet_alignment_loss(
        images, texts, labels[:1], labels, margin=3.0, temperature=0.5, reduction="mean"
    )
    loss.backward()

    # The slope by the cosine of a positive is minus its weight; in the other direction each text
    # has one positive and no negative.
    weight = torch.tensor([0.8, 0.6]).div(0.5).softmax(0)
    slope = torch.tensor([-weight[0], -weight[1], 1.0])
    across = (slope @ texts)[1:]
    torch.testing.assert_close(images.grad[0, 1:], across)


@pytest.mark.unhooked
def test_errors():
    rows = torch.zeros(3, 4)
    with pytest.raises(ValueError, match=r"TripletAlignmentLoss: expected margin >= 0, got -1"):
        TripletAlignmentLoss(-1)
    with pytest.raises(ValueError, match="expected temperature > 0, got 0"):
        TripletAlignmentLoss(temperature=0)
    with pytest.raises(ValueError, match="reduction to be one of mean, none"):
        TripletAlignmentLoss(reduction="sum")
    with pytest.raises(ValueError, match="triplet_alignment_loss: expected as many texts"):
        triplet_alignment_loss(rows, rows[:2])

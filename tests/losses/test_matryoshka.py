import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.losses import InfoNCELoss, MatryoshkaLoss, SDMLoss, SupConLoss

WIDTHS = st.lists(st.integers(1, 6), min_size=1, max_size=4, unique=True)


@given(WIDTHS, st.integers(0, 1000))
def test_it_is_the_weighted_sum_over_the_widths(dims, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(6, 6, generator=generator)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    weights = [0.5 + number for number in range(len(dims))]
    inner = SupConLoss(0.3)

    got = MatryoshkaLoss(inner, dims, weights)(rows, labels)
    want = sum(w * inner(rows[:, :d], labels) for w, d in zip(weights, dims, strict=True))
    torch.testing.assert_close(got, want)

    # A single width is the loss of the cut rows.
    torch.testing.assert_close(
        MatryoshkaLoss(inner, dims[:1])(rows, labels), inner(rows[:, : dims[0]], labels)
    )


def test_both_modalities_are_cut_and_masks_are_not():
    images, texts = torch.randn(2, 6, 8)
    got = MatryoshkaLoss(InfoNCELoss(), (4,))(images, texts)
    torch.testing.assert_close(got, InfoNCELoss()(images[:, :4], texts[:, :4]))

    labels = torch.arange(6) // 2
    values = MatryoshkaLoss(SDMLoss(reduction="none"), (2, 4))(images, texts, labels, None)
    assert values.shape == (6,)


def test_entries_beyond_the_widths_have_no_gradient():
    rows = torch.randn(4, 8, requires_grad=True)
    MatryoshkaLoss(SupConLoss(), (2, 5))(rows, torch.tensor([0, 0, 1, 1])).backward()
    assert rows.grad[:, :5].abs().sum() > 0
    assert not rows.grad[:, 5:].any()


def test_parameters_of_the_loss_are_its_own():
    loss = MatryoshkaLoss(InfoNCELoss(learnable=True), (2, 4))
    loss(*torch.randn(2, 4, 8)).backward()
    assert [name for name, _ in loss.named_parameters()] == ["loss.log_scale"]
    assert loss.loss.log_scale.grad is not None


@pytest.mark.unhooked
def test_errors():
    for dims in ((), (4, 4)):
        with pytest.raises(ValueError, match="MatryoshkaLoss: expected dims as one or more diff"):
            MatryoshkaLoss(SupConLoss(), dims)
    with pytest.raises(ValueError, match="expected dims as a whole number >= 1, got 0"):
        MatryoshkaLoss(SupConLoss(), (0,))
    with pytest.raises(ValueError, match="expected 2 weights, one for each width, got 1"):
        MatryoshkaLoss(SupConLoss(), (2, 4), [1.0])
    with pytest.raises(ValueError, match="expected weights >= 0, got -1"):
        MatryoshkaLoss(SupConLoss(), (2,), [-1])
    with pytest.raises(ValueError, match="expected embeddings of width 16 or more, got 8"):
        MatryoshkaLoss(SupConLoss(), (2, 16))(torch.randn(4, 8), torch.arange(4))

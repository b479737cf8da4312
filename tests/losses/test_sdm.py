import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import text_to_person as oracle
from strategies import two_sides

from clipreid_kit.losses import SDMLoss, sdm_loss


@given(two_sides(), st.sampled_from([0.05, 1.0]))
def test_equals_the_paper(sides, temperature):
    images, labels, texts, text_labels = sides
    got = sdm_loss(images, texts, labels, text_labels, temperature=temperature).item()

    want = oracle.sdm(
        images.tolist(), texts.tolist(), labels.tolist(), text_labels.tolist(), temperature
    )
    assert got == pytest.approx(want, rel=1e-4, abs=1e-5)

    # Both directions are summed, so the sides may be exchanged.
    swapped = sdm_loss(texts, images, text_labels, labels, temperature=temperature).item()
    assert swapped == pytest.approx(got, rel=1e-5, abs=1e-6)


@given(st.integers(1, 8), st.integers(0, 10_000))
def test_without_labels_row_i_belongs_to_row_i(num_rows, seed):
    generator = torch.Generator().manual_seed(seed)
    images, texts = torch.randn(2, num_rows, 4, generator=generator)

    assert torch.equal(sdm_loss(images, texts), sdm_loss(images, texts, torch.arange(num_rows)))


@given(st.integers(0, 10_000), st.floats(0.1, 10))
def test_lengths_and_order_do_not_matter(seed, factor):
    generator = torch.Generator().manual_seed(seed)
    images, texts = torch.randn(2, 6, 4, generator=generator)
    labels = torch.tensor([0, 0, 1, 1, 2, 3])
    want = sdm_loss(images, texts, labels, temperature=0.5)

    order = torch.randperm(6, generator=generator)
    got = sdm_loss(factor * images[order], texts[order], labels[order], temperature=0.5)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_it_is_least_where_matches_share_the_probability():
    # Four rows, two identities: matches coincide, and the identities are opposite.
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    labels = torch.tensor([0, 0, 1, 1])

    assert sdm_loss(rows, rows, labels).item() == pytest.approx(0, abs=1e-6)
    assert sdm_loss(rows, rows.flip(0), labels).item() > 30


def test_many_blocks_equal_one(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(9, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    texts = torch.randn(7, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    sides = (torch.arange(9) // 2, torch.arange(7) // 2)
    whole = sdm_loss(images, texts, *sides)
    want = torch.autograd.grad(whole, (images, texts))

    monkeypatch.setattr("clipreid_kit.losses._engine.anchorwise.BLOCK_ELEMENTS", 15)
    blocks = sdm_loss(images, texts, *sides)
    torch.testing.assert_close(blocks, whole)
    torch.testing.assert_close(torch.autograd.grad(blocks, (images, texts)), want)


def test_the_last_row_without_a_match_does_not_count():
    images, texts = torch.randn(2, 3, 4)
    with_a_stranger = sdm_loss(
        torch.cat([images, torch.randn(1, 4)]), texts, torch.tensor([0, 1, 2, 9]), torch.arange(3)
    )
    assert with_a_stranger.isfinite()

    # From images to texts nothing changes; from texts to images there is one more candidate.
    direction = sdm_loss(images, texts, reduction="none").mean()
    assert with_a_stranger != direction


@pytest.mark.unhooked
def test_errors():
    rows = torch.zeros(3, 4)
    with pytest.raises(ValueError, match=r"SDMLoss: expected temperature > 0, got 0"):
        SDMLoss(0)
    with pytest.raises(ValueError, match=r"SDMLoss: expected epsilon > 0, got 0"):
        SDMLoss(epsilon=0)
    with pytest.raises(ValueError, match=r"reduction to be one of mean, none, got 'sum'"):
        SDMLoss(reduction="sum")
    with pytest.raises(ValueError, match="as many texts as images, got 3 images and 2 texts"):
        sdm_loss(rows, rows[:2])
    with pytest.raises(ValueError, match=r"sdm_loss: text_labels is given without labels"):
        sdm_loss(rows, rows, None, torch.arange(3))
    with pytest.raises(ValueError, match="of one width"):
        sdm_loss(rows, torch.zeros(3, 5))

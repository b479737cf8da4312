import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from clipreid_kit.losses import clean_probability, divide_pairs, sdm_loss

MASKS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=0, max_size=12)


def losses_of_two_groups(num_clean=60, num_noisy=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    clean = 1 + 0.1 * torch.randn(num_clean, generator=generator)
    noisy = 4 + 0.3 * torch.randn(num_noisy, generator=generator)
    return torch.cat([clean, noisy])


@given(st.integers(0, 100), st.floats(0.01, 100), st.floats(-10, 10))
def test_two_groups_are_told_apart_whatever_their_scale(seed, factor, offset):
    losses = factor * losses_of_two_groups(seed=seed) + offset
    is_clean = clean_probability(losses) > 0.5

    assert is_clean[:60].all()
    assert not is_clean[60:].any()


def test_it_is_the_posterior_of_the_mixture():
    losses = losses_of_two_groups().double()
    got = clean_probability(losses)

    # Expectation-maximisation from its result changes nothing.
    scaled = (losses - losses.min()) / (losses.max() - losses.min())
    joint = []
    for share in (got, 1 - got):
        mean = (share * scaled).sum() / share.sum()
        variance = (share * (scaled - mean) ** 2).sum() / share.sum() + 5e-4
        density = norm.pdf(scaled.numpy(), mean.item(), variance.sqrt().item())
        joint.append(share.mean().item() * torch.from_numpy(density))

    torch.testing.assert_close(got, joint[0] / (joint[0] + joint[1]), atol=1e-3, rtol=1e-3)


def test_equal_losses_are_clean_and_dtype_and_seed_are_kept():
    assert clean_probability(torch.full((5,), 2.0)).tolist() == [1.0] * 5

    losses = losses_of_two_groups().double().requires_grad_()
    first = clean_probability(losses, seed=3)
    assert first.dtype == torch.float64
    assert not first.requires_grad
    assert torch.equal(first, clean_probability(losses, seed=3))


def test_swapped_captions_are_found():
    """Half-trained embeddings: near pairs, of which some have the caption of another image."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 16, generator=generator)
    texts = images + 0.5 * torch.randn(64, 16, generator=generator)
    texts[:12] = texts[:12].roll(1, 0)

    losses = sdm_loss(images, texts, temperature=0.1, reduction="none")
    is_clean = clean_probability(losses) > 0.5
    assert not is_clean[:12].any()
    assert is_clean[12:].all()


@given(MASKS)
def test_each_pair_is_in_one_set(pairs):
    first = torch.tensor([pair[0] for pair in pairs], dtype=torch.bool)
    second = torch.tensor([pair[1] for pair in pairs], dtype=torch.bool)
    division = divide_pairs(first, second)

    assert (sum(mask.int() for mask in division) == 1).all()
    for (one, other), clean, noisy in zip(pairs, division.clean, division.noisy, strict=True):
        assert clean.item() == (one and other)
        assert noisy.item() == (not one and not other)

    swapped = divide_pairs(second, first)
    assert all(torch.equal(a, b) for a, b in zip(division, swapped, strict=True))


def test_weights():
    first = torch.tensor([True] * 100 + [False] * 101)
    second = torch.tensor([True] * 100 + [True] * 100 + [False])
    division = divide_pairs(first, second)
    assert division.weights().tolist() == [1.0] * 100 + [0.5] * 100 + [0.0]
    assert division.weights(uncertain=1).sum() == 200

    drawn = division.drawn_weights(torch.Generator().manual_seed(0))
    assert drawn[:100].all()
    assert drawn[200] == 0
    assert 30 < drawn[100:200].sum() < 70
    assert not torch.equal(drawn, division.drawn_weights(torch.Generator().manual_seed(1)))
    assert torch.equal(drawn, division.drawn_weights(torch.Generator().manual_seed(0)))


@pytest.mark.unhooked
def test_errors(monkeypatch):
    with pytest.raises(ValueError, match=r"expected losses of at least 4 pairs \(N,\), got"):
        clean_probability(torch.zeros(3))
    with pytest.raises(ValueError, match=r"clean_probability: 1 of 4 losses are not finite"):
        clean_probability(torch.tensor([0.0, 1.0, torch.nan, 2.0]))
    with pytest.raises(ValueError, match=r"divide_pairs: expected first as a boolean row"):
        divide_pairs(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match="both masks of the same pairs, got 2 and 3"):
        divide_pairs(torch.zeros(2).bool(), torch.zeros(3).bool())
    with pytest.raises(ValueError, match=r"uncertain in \[0, 1\), got 2"):
        divide_pairs(torch.zeros(2).bool(), torch.zeros(2).bool()).weights(uncertain=2)

    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(ValueError, match=r"needs scikit-learn. Run `pip install clipreid_kit"):
        clean_probability(torch.arange(4.0))

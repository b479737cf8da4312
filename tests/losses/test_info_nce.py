import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import losses as oracle

from clipreid_kit.losses import InfoNCELoss, info_nce_loss, supcon_loss


@given(st.integers(1, 8), st.integers(0, 10_000), st.sampled_from([0.07, 1.0]))
def test_equals_the_paper(rows, seed, temperature):
    rng = torch.Generator().manual_seed(seed)
    images, texts = torch.randn(rows, 4, generator=rng), torch.randn(rows, 4, generator=rng)
    got = info_nce_loss(images, texts, temperature=temperature).item()
    assert got == pytest.approx(oracle.info_nce(images.tolist(), texts.tolist(), temperature), rel=1e-4, abs=1e-5)
    assert info_nce_loss(texts, images, temperature=temperature).item() == pytest.approx(got, rel=1e-5, abs=1e-6)


def test_is_both_directions_of_supcon_where_identities_differ():
    images, texts, labels = torch.randn(6, 4), torch.randn(6, 4), torch.arange(6)
    both = supcon_loss(images, labels, texts, labels) + supcon_loss(texts, labels, images, labels)
    assert info_nce_loss(images, texts).item() == pytest.approx(both.item() / 2, rel=1e-5)


def test_learned_temperature_moves_and_stays_in_bounds():
    loss = InfoNCELoss(0.5, learnable=True, max_scale=20.0)
    optimizer = torch.optim.SGD(loss.parameters(), lr=5.0)
    images = torch.eye(4)
    for _ in range(40):  # perfect pairs ask for an ever colder temperature
        optimizer.zero_grad()
        loss(images, images).backward()
        optimizer.step()
    loss(images, images)
    assert loss.temperature == pytest.approx(1 / 20, rel=1e-5)
    optimizer.zero_grad()
    loss(images, images.flip(0)).backward()  # wrong pairs ask for a warmer one: the bound does not hold it back
    optimizer.step()
    assert loss.temperature > 1 / 20


def test_fixed_temperature_has_no_parameters():
    assert list(InfoNCELoss().parameters()) == []
    assert InfoNCELoss(0.2).temperature == 0.2


def test_single_row_is_zero():
    assert info_nce_loss(torch.randn(1, 4), torch.randn(1, 4)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.unhooked
def test_errors():
    with pytest.raises(ValueError, match="as many texts as images, got 3 images and 2 texts"):
        info_nce_loss(torch.zeros(3, 4), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="of one width"):
        info_nce_loss(torch.zeros(3, 4), torch.zeros(3, 5))
    with pytest.raises(ValueError, match="temperature > 0, got 0"):
        info_nce_loss(torch.zeros(3, 4), torch.zeros(3, 4), temperature=0)
    with pytest.raises(ValueError, match=r"temperature >= 1 / max_scale = 0.01"):
        InfoNCELoss(0.001, learnable=True)
    with pytest.raises(ValueError, match="max_scale > 0"):
        InfoNCELoss(max_scale=-math.inf)

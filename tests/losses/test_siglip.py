import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import contrastive as oracle
from strategies import labelled_rows

from clipreid_kit.losses import SigLIPLoss, siglip_loss


def test_hand_computed():
    # one true pair at cosine 1 and one wrong pair at cosine 0 for each image
    got = siglip_loss(torch.eye(2), torch.eye(2), temperature=0.5, bias=-1.0)

    assert got.item() == pytest.approx(math.log1p(math.exp(-1)) + math.log1p(math.exp(-1)))

    # a second text of the same identity is another true pair: cosine 0, bias -1
    both = torch.tensor([4, 4])
    got = siglip_loss(torch.eye(2), torch.eye(2), both, temperature=0.5, bias=-1.0)

    assert got.item() == pytest.approx(math.log1p(math.exp(-1)) + math.log1p(math.exp(1)))


@given(
    st.integers(1, 8),
    st.integers(0, 10_000),
    st.sampled_from([0.05, 0.1, 1.0]),
    st.sampled_from([-10.0, 0.0, 3]),
)
def test_equals_the_paper(rows, seed, temperature, bias):
    rng = torch.Generator().manual_seed(seed)
    images, texts = torch.randn(rows, 4, generator=rng), torch.randn(rows, 4, generator=rng)
    got = siglip_loss(images, texts, temperature=temperature, bias=bias).item()

    assert got == pytest.approx(
        oracle.siglip(images.tolist(), texts.tolist(), temperature, bias), rel=1e-4
    )

    swapped = siglip_loss(texts, images, temperature=temperature, bias=bias).item()

    assert swapped == pytest.approx(got, rel=1e-4)


@given(labelled_rows(), labelled_rows(), st.sampled_from([None, 1, 3]))
def test_equals_the_paper_with_identities(first, second, block_size):
    (images, labels), (texts, text_labels) = first, second
    got = siglip_loss(
        images, texts, labels, text_labels, temperature=0.2, bias=-2.0, block_size=block_size
    )
    want = oracle.siglip(
        images.tolist(), texts.tolist(), 0.2, -2.0, labels.tolist(), text_labels.tolist()
    )

    assert got.item() == pytest.approx(want, rel=1e-4)

    own = siglip_loss(images, images.flip(1), labels, block_size=block_size)
    want = oracle.siglip(images.tolist(), images.flip(1).tolist(), 0.1, -10.0, labels.tolist())

    assert own.item() == pytest.approx(want, rel=1e-4)


@given(labelled_rows(), st.floats(0.01, 100))
def test_ignores_order_names_and_scale(sample, scale):
    rows, labels = sample
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(len(rows)))
    want = siglip_loss(rows, rows.flip(1), labels).item()
    got = siglip_loss(rows[order] * scale, rows.flip(1)[order], 7 - labels[order]).item()

    assert got == pytest.approx(want, rel=1e-4)


def test_a_pair_does_not_depend_on_the_batch():
    images, texts = torch.randn(6, 4), torch.randn(6, 4)
    first, second = torch.arange(3), torch.arange(3, 6)
    whole = siglip_loss(images, texts, torch.arange(6)) * 6

    # An image may have no matching text.
    parts = [
        siglip_loss(images[i], texts[j], i, j) * 3 for i in (first, second) for j in (first, second)
    ]

    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-5)


def test_learned_temperature_and_bias_start_as_in_the_paper():
    loss = SigLIPLoss()

    assert loss.log_scale.item() == pytest.approx(math.log(10))
    assert loss.bias.item() == -10
    assert loss.temperature == pytest.approx(0.1)
    assert sorted(loss.state_dict()) == ["bias", "log_scale"]

    images = torch.randn(4, 3, requires_grad=True)
    loss(images, images).backward()

    assert loss.log_scale.grad is not None
    assert loss.bias.grad is not None


def test_fixed_temperature_and_bias_are_no_parameters():
    loss = SigLIPLoss(0.2, -3.0, learnable=False)

    assert list(loss.parameters()) == []

    images, texts = torch.randn(4, 3), torch.randn(4, 3)

    assert torch.equal(loss(images, texts), siglip_loss(images, texts, temperature=0.2, bias=-3.0))
    assert "temperature=0.2, bias=-3, learnable=False" in repr(loss)


def test_without_texts_the_loss_is_a_connected_zero():
    images = torch.randn(3, 4, requires_grad=True)
    loss = siglip_loss(images, torch.zeros(0, 4), torch.arange(3), torch.arange(0))
    loss.backward()

    assert loss.item() == 0
    assert not images.grad.any()


@pytest.mark.unhooked
def test_errors():
    rows = torch.zeros(3, 4)

    with pytest.raises(ValueError, match="as many texts as images, got 3 images and 2 texts"):
        siglip_loss(rows, torch.zeros(2, 4))

    with pytest.raises(ValueError, match=r"text_labels is given without labels\. Give both"):
        siglip_loss(rows, rows, None, torch.arange(3))

    with pytest.raises(ValueError, match="text_labels as 2 integers"):
        siglip_loss(rows, torch.zeros(2, 4), torch.arange(3))

    with pytest.raises(ValueError, match="labels as 3 integers"):
        siglip_loss(rows, rows, torch.arange(2))

    with pytest.raises(ValueError, match="of one width"):
        siglip_loss(rows, torch.zeros(3, 5))

    with pytest.raises(ValueError, match="bias as a number or a scalar tensor"):
        siglip_loss(rows, rows, bias=torch.zeros(3))

    with pytest.raises(ValueError, match="temperature as a number or a scalar tensor"):
        siglip_loss(rows, rows, temperature=torch.zeros(3))


def test_wrong_options():
    with pytest.raises(ValueError, match="SigLIPLoss: expected temperature > 0, got 0"):
        SigLIPLoss(0)

    with pytest.raises(ValueError, match="bias as a finite number, got nan"):
        SigLIPLoss(bias=math.nan)

    with pytest.raises(ValueError, match="block_size as a whole number >= 1, got 0"):
        SigLIPLoss(block_size=0)

"""Losses with a value for each pair, and with pairs that are neither positive nor negative."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import text_to_person as oracle

from clipreid_kit.losses import (
    cmpc_loss,
    cmpm_loss,
    hard_negative_contrastive_loss,
    info_nce_loss,
    sdm_loss,
    siglip_loss,
    supcon_loss,
    triplet_alignment_loss,
)

WEIGHT = torch.arange(36.0, dtype=torch.float64).reshape(6, 6).cos()


def of_pairs(loss, **options):
    return lambda images, texts, labels, **more: loss(images, texts, **options, **more)


def of_labelled_pairs(loss, **options):
    return lambda images, texts, labels, **more: loss(images, texts, labels, **options, **more)


def of_contrast(images, texts, labels, **more):
    return supcon_loss(images, labels, texts, labels, temperature=0.3, **more)


def of_one_modality(images, texts, labels, **more):
    return supcon_loss(images + 0 * texts, labels, temperature=0.3, **more)


def of_classes(images, texts, labels, **more):
    return cmpc_loss(images, texts, labels, WEIGHT.to(images), **more)


# How each is called.
LOSSES = {
    "info_nce": of_pairs(info_nce_loss, temperature=0.3),
    "info_nce-focal": of_pairs(info_nce_loss, temperature=0.3, focal_gamma=0.5),
    "siglip": of_labelled_pairs(siglip_loss),
    "hard_negative": of_labelled_pairs(hard_negative_contrastive_loss, margin=-0.5),
    "supcon-text": of_contrast,
    "supcon": of_one_modality,
    "sdm": of_labelled_pairs(sdm_loss, temperature=0.3),
    "triplet_alignment": of_labelled_pairs(triplet_alignment_loss, temperature=0.3),
    "cmpm": of_labelled_pairs(cmpm_loss),
    "cmpc": of_classes,
}
MASKED = [name for name in LOSSES if name != "cmpc"]
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


def batch(num_rows=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sides = torch.randn(2, num_rows, 6, generator=generator, dtype=torch.float64)
    return [side.requires_grad_() for side in sides]


@pytest.mark.parametrize("name", LOSSES)
def test_the_mean_of_the_values_is_the_loss_with_its_gradient(name):
    images, texts = batch()
    loss = LOSSES[name](images, texts, LABELS)
    values = LOSSES[name](images, texts, LABELS, reduction="none")
    assert values.shape == ((8, 8) if name == "siglip" else (8,))

    mean = values.sum() / 8
    torch.testing.assert_close(mean, loss)
    torch.testing.assert_close(
        torch.autograd.grad(mean, (images, texts)),
        torch.autograd.grad(loss, (images, texts)),
        rtol=1e-6,
        atol=1e-9,
    )


@pytest.mark.parametrize("name", LOSSES)
def test_weighted_values_have_the_right_gradient(name):
    if name == "triplet_alignment":
        pytest.skip("its weights of positives carry no gradient: see test_triplet_alignment.py")

    images, texts = batch()
    weights = torch.linspace(0, 1, 8)

    def weighted(images, texts):
        values = LOSSES[name](images, texts, LABELS, reduction="none")
        return (weights * (values.sum(dim=1) if values.ndim == 2 else values)).sum()

    assert torch.autograd.gradcheck(weighted, (images, texts), fast_mode=True)


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_of_nothing_changes_nothing(name):
    images, texts = batch()
    nothing = torch.zeros(8, 8, dtype=torch.bool)
    loss = LOSSES[name](images, texts, LABELS)
    torch.testing.assert_close(LOSSES[name](images, texts, LABELS, ignore=nothing), loss)


@pytest.mark.parametrize("name", MASKED)
def test_ignored_pairs_have_no_gradient(name):
    """Nothing but a true pair is left to image 0, so it has the value of a batch of one pair."""
    images, texts = batch()
    labels = torch.arange(8)
    ignore = ~torch.eye(8, dtype=torch.bool)

    values = LOSSES[name](images, texts, labels, ignore=ignore, reduction="none")
    loss = LOSSES[name](images, texts, labels, ignore=ignore)
    loss.backward()
    assert values.isfinite().all()
    assert images.grad.isfinite().all()

    alone = LOSSES[name](images[:1], texts[:1], labels[:1], reduction="none")
    torch.testing.assert_close(values[0].sum(), alone.sum())


@pytest.mark.parametrize("name", MASKED)
def test_everything_may_be_ignored(name):
    images, texts = batch()
    everything = torch.ones(8, 8, dtype=torch.bool)
    loss = LOSSES[name](images, texts, LABELS, ignore=everything)
    loss.backward()

    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert images.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("num_rows", [0, 1])
def test_few_rows(name, num_rows):
    images, texts = batch(num_rows)
    values = LOSSES[name](images, texts, LABELS[:num_rows], reduction="none")
    values.sum().backward()

    assert values.shape == ((num_rows, num_rows) if name == "siglip" else (num_rows,))
    assert values.isfinite().all()
    assert images.grad is None or images.grad.isfinite().all()


@pytest.mark.parametrize("name", MASKED)
def test_no_rows_with_a_mask(name):
    images, texts = batch(0)
    none = torch.zeros(0, 0, dtype=torch.bool)
    loss = LOSSES[name](images, texts, LABELS[:0], ignore=none)
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast(name, dtype):
    images, texts = [side.detach().to(dtype).requires_grad_() for side in batch()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = LOSSES[name](images, texts, LABELS, reduction="none")
    values.sum().backward()

    assert values.dtype == torch.float32
    assert images.grad.isfinite().all()


@given(st.integers(0, 10_000), st.sampled_from(["sdm", "cmpm", "triplet_alignment"]))
def test_values_and_masks_equal_the_papers(seed, name):
    images, texts = [side.detach() for side in batch(6, seed)]
    labels = torch.tensor([0, 0, 1, 1, 2, 3])
    generator = torch.Generator().manual_seed(seed)
    ignore = torch.rand(6, 6, generator=generator) < 0.3

    options = {"sdm": (0.3,), "cmpm": (), "triplet_alignment": (0.1, 0.3)}[name]
    want = getattr(oracle, name)(
        images.tolist(),
        texts.tolist(),
        *[labels.tolist()] * 2,
        *options,
        ignore=ignore.tolist(),
        pairs=True,
    )
    got = LOSSES[name](images, texts, labels, ignore=ignore, reduction="none")
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_true_pairs_of_info_nce_are_never_ignored():
    images, texts = batch()
    ignore = torch.zeros(8, 8, dtype=torch.bool)
    loss = info_nce_loss(images, texts, ignore=ignore)
    torch.testing.assert_close(
        info_nce_loss(images, texts, ignore=ignore.fill_diagonal_(True)), loss
    )


def test_a_learned_temperature_has_a_gradient():
    images, texts = batch()
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    info_nce_loss(images, texts, temperature=temperature, reduction="none").sum().backward()
    assert temperature.grad.abs() > 0


@pytest.mark.unhooked
@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize(
    "ignore",
    [torch.zeros(8, 7, dtype=torch.bool), torch.zeros(8, 8), torch.zeros(8, dtype=torch.bool)],
    ids=["shape", "dtype", "dimensions"],
)
def test_a_wrong_mask_is_an_error(name, ignore):
    images, texts = batch()
    with pytest.raises(ValueError, match=r"^\w+: expected ignore as a boolean matrix \(8, 8\)"):
        LOSSES[name](images, texts, LABELS, ignore=ignore)


@pytest.mark.unhooked
def test_values_of_pairs_need_pairs():
    images, texts = batch()
    with pytest.raises(ValueError, match=r"there are 8 images and 7 texts\. Repeat the text"):
        sdm_loss(images, texts[:7], LABELS, LABELS[:7], reduction="none")
    with pytest.raises(ValueError, match=r"label_smoothing=0\.1 spreads a target over all rows"):
        info_nce_loss(
            images, texts, label_smoothing=0.1, ignore=torch.zeros(8, 8, dtype=torch.bool)
        )

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import memory as oracle

from clipreid_kit.losses import (
    ImageToTextCELoss,
    image_to_text_ce_loss,
    info_nce_loss,
)
from clipreid_kit.losses._engine import class_cross_entropy


def sample(num_rows, num_texts, seed, dim=4):
    rng = torch.Generator().manual_seed(seed)
    images = torch.randn(num_rows, dim, generator=rng)
    texts = torch.randn(num_texts, dim, generator=rng)
    return images, torch.randint(num_texts, (num_rows,), generator=rng), texts


def test_hand_computed():
    images, labels, texts = torch.eye(2), torch.tensor([0, 1]), torch.eye(2)
    plain = image_to_text_ce_loss(images, labels, texts, temperature=1.0, label_smoothing=0.0)

    assert plain.item() == pytest.approx(math.log(1 + math.e) - 1)

    # a fifth of the target on two texts: a tenth of it on the wrong one, whose logit is lower by 1
    smoothed = image_to_text_ce_loss(images, labels, texts, temperature=1.0, label_smoothing=0.2)

    assert smoothed.item() == pytest.approx(math.log(1 + math.e) - 1 + 0.1)


@given(
    st.integers(0, 6),
    st.integers(1, 9),
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from([(0.05, True), (1.0, True), (1.0, False)]),
    st.booleans(),
)
def test_equals_the_paper(num_rows, num_texts, seed, smoothing, form, trained_texts):
    images, labels, texts = sample(num_rows, num_texts, seed)
    temperature, normalize = form
    got = image_to_text_ce_loss(
        images,
        labels,
        texts.requires_grad_(trained_texts),
        temperature=temperature,
        label_smoothing=smoothing,
        normalize=normalize,
    )
    want = oracle.image_to_text_ce(
        images.tolist(),
        labels.tolist(),
        texts.tolist(),
        temperature,
        smoothing,
        normalize=normalize,
    )

    assert got.item() == pytest.approx(want, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_of_fixed_and_of_trained_texts(normalize, smoothing):
    images, labels, texts = (x.double() if x.is_floating_point() else x for x in sample(5, 7, 1))

    def loss(v, t):
        return image_to_text_ce_loss(
            v, labels, t, temperature=0.5, label_smoothing=smoothing, normalize=normalize
        )

    assert torch.autograd.gradcheck(lambda v: loss(v, texts), images.requires_grad_())
    assert torch.autograd.gradcheck(loss, (images, texts.clone().requires_grad_()))
    with pytest.raises(RuntimeError, match="no second derivative"):  # and not silently a wrong one
        torch.autograd.grad(loss(images, texts), images, create_graph=True)


def test_is_the_raw_form_of_clip_reid():
    images, labels, texts = sample(6, 5, 2)
    want = torch.nn.functional.cross_entropy(images @ texts.T, labels, label_smoothing=0.1)
    loss = ImageToTextCELoss(temperature=1.0, normalize=False)
    assert loss(images, labels, texts).item() == pytest.approx(want.item(), rel=1e-6)


@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(0.01, 100))
def test_ignores_order_and_scale(seed, image_scale, text_scale):
    images, labels, texts = sample(5, 6, seed)
    order, names = (
        torch.randperm(5),
        torch.randperm(6),
    )  # texts[names] has the text of identity names[k] in row k
    renamed = names.argsort()[labels]
    want = image_to_text_ce_loss(images, labels, texts, temperature=0.1).item()
    got = image_to_text_ce_loss(
        images[order] * image_scale, renamed[order], texts[names] * text_scale, temperature=0.1
    )

    assert got.item() == pytest.approx(want, rel=1e-4, abs=1e-5)


def test_both_directions_are_info_nce():
    images, _, texts = sample(6, 6, 3)
    pairs = torch.arange(6)
    both = [
        image_to_text_ce_loss(a, pairs, b, label_smoothing=0.0)
        for a, b in ((images, texts), (texts, images))
    ]

    assert info_nce_loss(images, texts, temperature=0.01).item() == pytest.approx(
        sum(both).item() / 2, rel=1e-5
    )


def test_blocks_of_rows_change_nothing(monkeypatch):
    images, labels, texts = sample(7, 5, 4)
    images.requires_grad_()
    loss = ImageToTextCELoss()
    whole = loss(images, labels, texts)
    (of_whole,) = torch.autograd.grad(whole, images)
    monkeypatch.setattr(class_cross_entropy, "MAX_LOGITS", 10)  # two rows at a time
    blocks = loss(images, labels, texts)
    (of_blocks,) = torch.autograd.grad(blocks, images)

    torch.testing.assert_close(blocks, whole)
    torch.testing.assert_close(of_blocks, of_whole)


def test_fixed_texts_may_change_before_the_backward_pass():
    images, labels, texts = sample(5, 6, 5)
    images.requires_grad_()
    (want,) = torch.autograd.grad(image_to_text_ce_loss(images, labels, texts), images)
    loss = image_to_text_ce_loss(images, labels, texts)
    texts.zero_()
    (got,) = torch.autograd.grad(loss, images)

    assert torch.equal(got, want)


def test_zero_texts_and_zero_images():
    images, labels, texts = sample(4, 3, 6)
    images[0], texts[1] = 0, 0
    images.requires_grad_()
    loss = image_to_text_ce_loss(images, labels, texts)
    loss.backward()

    assert loss.isfinite()
    assert images.grad.isfinite().all()
    assert (images.grad[0] == 0).all()


def test_labels_out_of_range():
    images, _, texts = sample(2, 3, 7)

    with pytest.raises(
        ValueError, match=r"labels in \[0, 3\), got labels from 0 to 3\. A label is a row of text"
    ):
        image_to_text_ce_loss(images, torch.tensor([0, 3]), texts)

    with pytest.raises(ValueError, match="got labels from -1 to 2"):
        ImageToTextCELoss()(images, torch.tensor([-1, 2]), texts)

    with pytest.raises(ValueError, match=r"labels in \[0, 0\)"):
        image_to_text_ce_loss(images, torch.tensor([0, 0]), texts[:0])


@pytest.mark.unhooked
def test_wrong_shapes():
    images, labels, texts = sample(2, 3, 8)

    with pytest.raises(
        ValueError, match=r"embeddings and text_embeddings of one width, got \(2, 4\) and \(3, 3\)"
    ):
        image_to_text_ce_loss(images, labels, texts[:, :3])

    with pytest.raises(ValueError, match="labels as 2 integers"):
        image_to_text_ce_loss(images, labels.float(), texts)

    with pytest.raises(ValueError, match="text_embeddings as a floating-point matrix"):
        image_to_text_ce_loss(images, labels, texts[0])


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_wrong_options(smoothing):
    with pytest.raises(
        ValueError, match=r"ImageToTextCELoss: expected label_smoothing in \[0, 1\)"
    ):
        ImageToTextCELoss(label_smoothing=smoothing)

    with pytest.raises(ValueError, match="temperature > 0"):
        ImageToTextCELoss(0.0)


@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_compiles_with_its_gradient():
    torch._dynamo.reset()
    images, labels, texts = sample(5, 6, 9)
    images.requires_grad_()
    loss = ImageToTextCELoss()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (got,) = torch.autograd.grad(compiled(images, labels, texts), images)
    (want,) = torch.autograd.grad(loss(images, labels, texts), images)

    torch.testing.assert_close(got, want)

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import contrastive as oracle
from strategies import labelled_rows

from clipreid_kit.losses import (
    HardNegativeContrastiveLoss,
    hard_negative_contrastive_loss,
    info_nce_loss,
)


def hinge(images, texts, labels=None, **options):
    """The second term alone."""
    options = {"temperature": 0.3, **options}
    whole = hard_negative_contrastive_loss(images, texts, labels, **options)

    return (
        whole
        - hard_negative_contrastive_loss(images, texts, labels, **{**options, "hard_weight": 0})
    ).item()


def test_hand_computed_hinge():
    # cosines: images 0 and 1 against texts 0 and 1 at 0.8, image 2 at 0.6 and 0 against them
    rows = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])

    # hardest of rows: 0.8, 0.8, 0.6; over a margin of 0.5: 0.3, 0.3, 0.1; both directions alike
    assert hinge(rows, rows, num_hard=1) == pytest.approx(0.7 / 3, rel=1e-5)

    # two hardest: (0.8, 0), (0.8, 0.6), (0.6, 0)
    assert hinge(rows, rows, num_hard=2) == pytest.approx((0.3 + 0.4 + 0.1) / 6, rel=1e-5)
    assert hinge(rows, rows, num_hard=9) == pytest.approx((0.3 + 0.4 + 0.1) / 6, rel=1e-5)
    assert hinge(rows, rows, num_hard=1, hard_weight=3.0) == pytest.approx(0.7, rel=1e-5)

    # rows 0 and 1 of one identity: what is left is 0 against (0) and (0.6), and row 2 against 0 and
    # 0.6
    labels = torch.tensor([5, 5, 6])

    assert hinge(rows, rows, labels, num_hard=1) == pytest.approx((0.0 + 0.1 + 0.1) / 3, rel=1e-5)


def test_margin_is_a_cosine_at_any_temperature():
    rows = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    assert hinge(rows, rows, temperature=0.1) == pytest.approx(0.3, rel=1e-4)
    assert hinge(rows, rows, temperature=1.0) == pytest.approx(0.3, rel=1e-4)
    assert hinge(rows, rows, margin=0.81) == 0


@given(
    labelled_rows(),
    st.booleans(),
    st.integers(1, 4),
    st.sampled_from([-1, -0.2, 0.5]),
    st.sampled_from([None, 1, 3]),
)
def test_equals_the_oracle(sample, with_labels, num_hard, margin, block_size):
    rows, labels = sample
    texts = rows.flip(1) + 0.5 * rows
    got = hard_negative_contrastive_loss(
        rows,
        texts,
        labels if with_labels else None,
        temperature=0.2,
        margin=margin,
        num_hard=num_hard,
        hard_weight=1.7,
        block_size=block_size,
    )
    want = oracle.hard_negative(
        rows.tolist(),
        texts.tolist(),
        0.2,
        margin,
        num_hard,
        1.7,
        labels.tolist() if with_labels else None,
    )

    assert got.item() == pytest.approx(want, rel=1e-4, abs=1e-5)


def test_without_weight_it_is_info_nce():
    images, texts = torch.randn(5, 4), torch.randn(5, 4)
    got = hard_negative_contrastive_loss(images, texts, hard_weight=0)
    assert torch.equal(got, info_nce_loss(images, texts))


def test_the_true_pair_is_never_mined():
    rows = torch.eye(4)  # true pairs at cosine 1, negatives at 0
    assert hinge(rows, rows, margin=0.0, num_hard=1) == 0


@pytest.mark.parametrize("block_size", [None, 1, 2, 5])
def test_only_the_mined_pairs_get_a_gradient(block_size):
    images, texts = torch.randn(6, 4).double(), torch.randn(6, 4).double()

    def gradient(weight):
        leaf = texts.clone().requires_grad_()
        hard_negative_contrastive_loss(
            images, leaf, hard_weight=weight, margin=-1, num_hard=1, block_size=block_size
        ).backward()

        return leaf.grad

    from_hinge = gradient(1.0) - gradient(0)
    leaf = texts.clone().requires_grad_()
    cosine = torch.nn.functional.cosine_similarity(images[:, None], leaf[None], dim=2)
    negative = cosine - 9 * torch.eye(6)
    (
        (negative.max(dim=1).values + 1).mean() / 2 + (negative.max(dim=0).values + 1).mean() / 2
    ).backward()

    torch.testing.assert_close(from_hinge, leaf.grad)


@given(labelled_rows(), st.floats(0.01, 100))
def test_ignores_order_names_and_scale(sample, scale):
    rows, labels = sample
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(len(rows)))
    want = hard_negative_contrastive_loss(rows, rows.flip(1), labels, margin=0).item()
    got = hard_negative_contrastive_loss(
        rows[order] * scale, rows.flip(1)[order], 7 - labels[order], margin=0
    )

    assert got.item() == pytest.approx(want, rel=1e-4, abs=1e-5)


def test_labels_keep_siblings_from_being_pushed_apart():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    labels = torch.tensor([0, 0, 1, 1])
    loss = HardNegativeContrastiveLoss(temperature=0.05, margin=0.5)

    assert loss(rows, rows, labels).item() == pytest.approx(0, abs=1e-6)
    assert loss(rows, rows).item() > 0.5


@pytest.mark.unhooked
def test_wrong_shapes():
    rows = torch.zeros(3, 4)

    with pytest.raises(ValueError, match="as many texts as images, got 3 images and 2 texts"):
        hard_negative_contrastive_loss(rows, torch.zeros(2, 4))

    with pytest.raises(ValueError, match="labels as 3 integers"):
        hard_negative_contrastive_loss(rows, rows, torch.arange(2))


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature > 0, got 0"),
        ({"margin": 1.0}, r"margin in \[-1, 1\), a cosine, got 1.0"),
        ({"margin": float("nan")}, r"margin in \[-1, 1\)"),
        ({"num_hard": 0}, "num_hard as a whole number >= 1, got 0"),
        ({"num_hard": 1.5}, "num_hard as a whole number >= 1, got 1.5"),
        ({"hard_weight": -1}, "hard_weight >= 0, got -1"),
        ({"block_size": 0}, "block_size as a whole number >= 1, got 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        HardNegativeContrastiveLoss(**options)

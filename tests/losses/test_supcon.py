import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import losses as oracle
from strategies import labelled_rows

from clipreid_kit.losses import SupConLoss, supcon_loss


def test_hand_computed_one_modality():
    # each anchor: one positive among three candidates, all at cosine 0
    assert supcon_loss(torch.eye(4), torch.tensor([0, 0, 1, 1])).item() == pytest.approx(
        math.log(3)
    )


def test_hand_computed_image_text_keeps_the_true_pair():
    loss = supcon_loss(
        torch.eye(2), torch.tensor([4, 9]), torch.eye(2), torch.tensor([4, 9]), temperature=1.0
    )

    assert loss.item() == pytest.approx(math.log(1 + math.e) - 1)

    # a perfect true pair beside an orthogonal sibling is not free of loss, and is not thrown away
    # either
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    labels = torch.tensor([0, 0])

    assert supcon_loss(images, labels, images, labels, temperature=1.0).item() == pytest.approx(
        math.log(math.e + 1) - 0.5
    )


@given(
    labelled_rows(),
    st.sampled_from([0.07, 0.5, 1.0]),
    st.sampled_from(["mean", "sum"]),
)
def test_equals_the_paper(sample, temperature, positives):
    rows, labels = sample
    got = supcon_loss(rows, labels, temperature=temperature, positives=positives)
    want = oracle.supcon(rows.tolist(), labels.tolist(), temperature, positives=positives)
    assert got.item() == pytest.approx(want, rel=1e-4, abs=1e-5)


@given(labelled_rows(), labelled_rows())
def test_equals_the_paper_across_modalities(first, second):
    (rows, labels), (contrast, contrast_labels) = first, second
    got = supcon_loss(rows, labels, contrast, contrast_labels, temperature=0.2)
    want = oracle.supcon(
        rows.tolist(), labels.tolist(), 0.2, contrast.tolist(), contrast_labels.tolist()
    )

    assert got.item() == pytest.approx(want, rel=1e-4, abs=1e-5)


@given(labelled_rows(), st.permutations(range(4)), st.floats(0.01, 100))
def test_ignores_order_names_and_scale(sample, names, scale):
    rows, labels = sample
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(len(rows)))
    renamed = torch.tensor(names)[labels]
    want = supcon_loss(rows, labels).item()

    assert supcon_loss(rows[order] * scale, renamed[order]).item() == pytest.approx(
        want, rel=1e-4, abs=1e-5
    )


def test_a_contrast_of_the_same_rows_keeps_the_diagonal():
    rows, labels = torch.randn(6, 3), torch.tensor([0, 0, 1, 1, 2, 2])
    crossed = supcon_loss(rows, labels, rows.clone(), labels, temperature=0.5)

    assert crossed.item() == pytest.approx(
        oracle.supcon(rows.tolist(), labels.tolist(), 0.5, rows.tolist(), labels.tolist()), rel=1e-5
    )


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (torch.zeros(4), torch.zeros(4).long()),
            r"supcon_loss: expected embeddings as a floating-point matrix",
        ),
        (
            (torch.zeros(4, 2).long(), torch.zeros(4).long()),
            r"embeddings as a floating-point matrix.*int64",
        ),
        ((torch.zeros(4, 2), torch.zeros(3).long()), r"labels as 4 integers.*\(3,\)"),
        ((torch.zeros(4, 2), torch.zeros(4)), r"labels as 4 integers.*float32"),
        (
            (torch.zeros(4, 2), torch.zeros(4).long(), torch.zeros(4, 2)),
            r"contrast is given without contrast_labels. Give both",
        ),
        (
            (torch.zeros(4, 2), torch.zeros(4).long(), torch.zeros(5, 3), torch.zeros(5).long()),
            r"of one width, got \(4, 2\) and \(5, 3\)",
        ),
    ],
)
def test_wrong_shapes(arguments, message):
    with pytest.raises(ValueError, match=message):
        supcon_loss(*arguments)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_wrong_temperature(temperature):
    with pytest.raises(ValueError, match="temperature > 0"):
        SupConLoss(temperature)


@pytest.mark.unhooked
def test_wrong_positives():
    with pytest.raises(ValueError, match="positives to be one of mean, sum, got 'median'"):
        SupConLoss(positives="median")

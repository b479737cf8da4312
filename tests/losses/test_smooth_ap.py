import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import ranks as oracle
from strategies import labelled_rows, two_sides

from clipreid_kit import evaluate_retrieval
from clipreid_kit.losses import SmoothAPLoss, smooth_ap_loss


@given(labelled_rows(), st.sampled_from([0.01, 0.3]))
def test_equals_the_paper(batch, temperature):
    rows, labels = batch
    got = smooth_ap_loss(rows.double(), labels, temperature=temperature).item()
    want = oracle.smooth_ap(rows.tolist(), labels.tolist(), None, None, temperature)
    assert got == pytest.approx(want, rel=1e-4, abs=1e-4)
    assert 0 <= got < 1


@given(two_sides())
def test_against_a_contrast_set(sides):
    rows, labels, contrast, contrast_labels = sides
    got = smooth_ap_loss(rows, labels, contrast, contrast_labels, temperature=0.3).item()
    lists = (rows.tolist(), labels.tolist(), contrast.tolist(), contrast_labels.tolist())
    assert got == pytest.approx(oracle.smooth_ap(*lists, 0.3), rel=1e-4, abs=1e-5)


def test_it_tends_to_the_average_precision():
    generator = torch.Generator().manual_seed(0)
    rows, contrast = torch.randn(2, 20, 8, generator=generator).double()
    labels = torch.arange(20) % 5

    result = evaluate_retrieval(rows, contrast, query_ids=labels, gallery_ids=labels)
    loss = smooth_ap_loss(rows, labels, contrast, labels, temperature=1e-5)
    assert loss.item() == pytest.approx(1 - result.mean_ap, abs=1e-4)


def test_some_anchors_at_a_time_equal_all(monkeypatch):
    rows = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(9) // 2
    whole = smooth_ap_loss(rows, labels, temperature=0.2)
    want = torch.autograd.grad(whole, rows)

    monkeypatch.setattr("clipreid_kit.losses._engine.smooth_ranks._COMPARISONS", 20)
    parts = smooth_ap_loss(rows, labels, temperature=0.2)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, rows), want)


@pytest.mark.unhooked
def test_errors():
    with pytest.raises(ValueError, match=r"SmoothAPLoss: expected temperature > 0, got 0"):
        SmoothAPLoss(0)
    with pytest.raises(ValueError, match="contrast is given without contrast_labels"):
        smooth_ap_loss(torch.zeros(2, 3), torch.arange(2), torch.zeros(2, 3))

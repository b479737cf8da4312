import pytest
import torch
from hypothesis import given
from oracles import text_to_person as oracle
from strategies import two_sides

from clipreid_kit.distances import l2_normalize
from clipreid_kit.losses import CMPMLoss, cmpm_loss, sdm_loss


@given(two_sides())
def test_equals_the_paper(sides):
    images, labels, texts, text_labels = sides
    got = cmpm_loss(images, texts, labels, text_labels).item()

    want = oracle.cmpm(images.tolist(), texts.tolist(), labels.tolist(), text_labels.tolist())
    assert got == pytest.approx(want, rel=1e-4, abs=1e-5)


@given(two_sides())
def test_on_rows_of_one_length_it_is_sdm(sides):
    images, labels, texts, text_labels = sides
    scaled = (10 * l2_normalize(images), 10 * l2_normalize(texts))

    got = cmpm_loss(*scaled, labels, text_labels)
    want = sdm_loss(images, texts, labels, text_labels, temperature=0.1)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_lengths_matter():
    images, texts = torch.randn(2, 5, 4)
    assert cmpm_loss(2 * images, texts) != cmpm_loss(images, texts)


@pytest.mark.unhooked
def test_errors():
    with pytest.raises(ValueError, match=r"CMPMLoss: expected epsilon > 0, got 0"):
        CMPMLoss(0)
    with pytest.raises(ValueError, match="reduction to be one of mean, none"):
        CMPMLoss(reduction="sum")
    with pytest.raises(ValueError, match="cmpm_loss: expected as many texts as images"):
        cmpm_loss(torch.zeros(3, 4), torch.zeros(2, 4))

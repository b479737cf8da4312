import pytest
import torch
from oracles import prompts as oracle
from torch.testing import assert_close

from clipreid_kit.clip import IdentityClassifier
from clipreid_kit.clip.methods.identity_head import (
    check_identities,
    check_terms,
    chosen,
    smoothed_cross_entropy,
)


def test_classifier_is_a_product():
    head = IdentityClassifier(6, 50)
    rows = torch.randn(3, 6)
    assert_close(head(rows), rows @ head.weight.T)
    assert torch.equal(head(rows), head(rows, torch.tensor([0, 1, 2])))
    assert head.weight.std().item() == pytest.approx(0.001, rel=0.2)
    assert [name for name, _ in head.named_parameters()] == ["weight"]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
    logits, labels = torch.randn(4, 7), torch.tensor([0, 6, 3, 3])
    loss = smoothed_cross_entropy(logits, labels, smoothing, distributed=False)
    assert_close(
        loss.item(), oracle.smoothed_ce(logits, labels.tolist(), smoothing), atol=1e-5, rtol=1e-5
    )
    assert smoothed_cross_entropy(logits[:0], labels[:0], smoothing, distributed=False) == 0
    assert (
        smoothed_cross_entropy(logits.bfloat16(), labels, smoothing, distributed=False).dtype
        == torch.float32
    )


@pytest.mark.unhooked
def test_errors():
    with pytest.raises(ValueError, match="num_identities as a whole number >= 1"):
        IdentityClassifier(6, 0)
    with pytest.raises(
        ValueError, match=r"owner: expected labels in \[0, 3\), got labels from -1 to 3"
    ):
        check_identities("owner", torch.tensor([-1, 3]), 2, 3)
    with pytest.raises(ValueError, match="weights of id, triplet, got 'tripelt'"):
        check_terms("owner", {"tripelt": 1.0}, ("id", "triplet"))
    with pytest.raises(ValueError, match="a weight for 'center', got its loss alone"):
        chosen("owner", "center", {"id": 1.0}, torch.nn.Identity(), torch.nn.Identity)

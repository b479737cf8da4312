import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.clip import IdentityClassifier


def test_logits_are_a_product_with_the_weight():
    classifier = IdentityClassifier(6, 50)
    rows = torch.randn(3, 6)

    assert_close(classifier(rows), rows @ classifier.weight.T)
    assert torch.equal(classifier(rows), classifier(rows, torch.tensor([0, 1, 2])))
    assert [name for name, _ in classifier.named_parameters()] == ["weight"]


@pytest.mark.parametrize("std", [0.001, 0.1])
def test_std_of_the_initial_weights(std):
    weight = IdentityClassifier(60, 50, std).weight
    assert weight.std().item() == pytest.approx(std, rel=0.1)


def test_repr():
    assert repr(IdentityClassifier(6, 50)) == "IdentityClassifier(dim=6, num_identities=50)"


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5), "IdentityClassifier: expected dim as a whole number >= 1, got 0"),
        ((6, 0), "IdentityClassifier: expected num_identities as a whole number >= 1, got 0"),
        ((6, 5, -0.1), "IdentityClassifier: expected std >= 0"),
        ((6, 5, "0.1"), "IdentityClassifier: expected std as a number, got '0.1'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        IdentityClassifier(*arguments)

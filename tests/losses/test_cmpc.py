import pytest
import torch
from hypothesis import given
from oracles import text_to_person as oracle
from strategies import labelled_rows

from clipreid_kit.losses import CMPCLoss, cmpc_loss


@given(labelled_rows())
def test_equals_the_paper(batch):
    images, labels = batch
    texts = images.roll(1, dims=1) + 0.5
    weight = torch.arange(20.0).reshape(4, 5).cos()
    want = oracle.cmpc(images.tolist(), texts.tolist(), labels.tolist(), weight.tolist())

    values = cmpc_loss(images, texts, labels, weight, reduction="none")
    torch.testing.assert_close(values, torch.tensor(want), rtol=1e-4, atol=1e-5)

    loss = cmpc_loss(images, texts, labels, weight)
    assert loss.item() == pytest.approx(sum(want) / len(want), rel=1e-4)


def test_only_what_both_have_in_common_is_classified():
    weight = torch.eye(3)
    labels = torch.tensor([0])
    image = torch.tensor([[3.0, 0.0, 5.0]])
    text = torch.tensor([[2.0, 0.0, 0.0]])

    # The image's third entry is no part of its projection onto the text.
    without = torch.tensor([[3.0, 0.0, 0.0]])
    by_image = torch.nn.functional.cross_entropy(without, labels)
    both = cmpc_loss(image, text, labels, weight)
    projected = (text * image / image.norm()).sum() * image / image.norm()
    by_text = torch.nn.functional.cross_entropy(projected, labels)
    torch.testing.assert_close(both, by_image + by_text)


def test_the_weight_is_a_parameter_and_its_length_does_not_matter():
    loss = CMPCLoss(4, 6)
    images, texts = torch.randn(2, 3, 4)
    labels = torch.tensor([0, 5, 2])
    value = loss(images, texts, labels)
    value.backward()
    assert loss.weight.grad.abs().sum() > 0

    torch.testing.assert_close(cmpc_loss(images, texts, labels, 3 * loss.weight), value)


@pytest.mark.unhooked
def test_errors():
    rows, labels = torch.zeros(3, 4), torch.arange(3)
    with pytest.raises(ValueError, match=r"CMPCLoss: expected dim as a whole number >= 1, got 0"):
        CMPCLoss(0, 3)
    with pytest.raises(ValueError, match=r"labels from 0 to 2\. Number the training identities"):
        cmpc_loss(rows, rows, labels, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="image_embeddings and weight of one width"):
        cmpc_loss(rows, rows, labels, torch.zeros(3, 5))
    with pytest.raises(ValueError, match="as many texts as images"):
        cmpc_loss(rows, rows[:2], labels, torch.zeros(3, 4))

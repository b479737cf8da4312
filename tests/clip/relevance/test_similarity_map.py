import pytest
import torch
from tiny_towers import tiny_towers

from clipreid_kit.clip import attention_relevance, grad_cam, similarity_map


@pytest.mark.parametrize(
    ("name", "method"), [("reid-tiny-vit", attention_relevance), ("reid-tiny-resnet", grad_cam)]
)
def test_the_method_suits_the_tower(name, method):
    towers = tiny_towers(name, image_size=(64, 32))
    images = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    targets = towers.encode_image(images.flip(0)).detach()
    found = similarity_map(towers, images, targets)
    assert torch.equal(found, method(towers, images, targets))
    assert (found >= 0).all()


def test_another_embedding_has_another_map():
    towers = tiny_towers(image_size=(32, 16))
    head = torch.nn.Linear(towers.embed_dim, 3)
    images, target = torch.rand(1, 3, 32, 16), torch.ones(1, 3)
    found = similarity_map(towers, images, target, embed=lambda x: head(towers.encode_image(x)))
    assert found.shape == (1, 4, 2)
    assert head.weight.grad is None

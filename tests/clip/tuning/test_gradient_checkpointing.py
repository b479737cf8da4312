import copy

import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.clip import set_gradient_checkpointing

TEXTS = ["a coat", "a hat", "a bag", "a red bag"]


def train_step(towers):
    """Image embeddings, gradients and buffers of a forward and backward pass of a copy."""
    twin = copy.deepcopy(towers).train()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, *twin.image_size, generator=generator)

    image, text = twin(images, twin.tokenize(TEXTS))
    levels = twin.encode_image_levels(images, ["previous", "unprojected"])
    loss = image.square().sum() + text.square().sum()
    (loss + levels.previous.sum() + levels.unprojected.sum()).backward()

    gradients = {
        name: parameter.grad
        for name, parameter in twin.named_parameters()
        if parameter.grad is not None
    }
    return image, gradients, dict(twin.named_buffers())


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
def test_values_gradients_and_statistics_equal_those_of_a_plain_step(build, kind):
    towers = build(kind)
    plain_image, plain_gradients, plain_buffers = train_step(towers)

    set_gradient_checkpointing(towers)
    image, gradients, buffers = train_step(towers)

    assert_close(image, plain_image, atol=1e-6, rtol=1e-6)
    assert gradients.keys() == plain_gradients.keys()
    for name, gradient in plain_gradients.items():
        assert_close(gradients[name], gradient, atol=1e-4, rtol=1e-4)

    # a batch that is counted twice would move the statistics twice
    assert buffers.keys() == plain_buffers.keys()
    for name, buffer in plain_buffers.items():
        assert_close(buffers[name], buffer, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "block_name"),
    [("vit", "transformer.resblocks.0"), ("resnet", "layer3.0"), ("timm", "trunk.blocks.0")],
)
@pytest.mark.parametrize(("enabled", "num_calls"), [(True, 2), (False, 1)])
def test_activations_are_recomputed(build, kind, block_name, enabled, num_calls):
    towers = build(kind).train()
    calls = []
    block = towers.model.visual.get_submodule(block_name)
    block.register_forward_pre_hook(lambda *arguments: calls.append(1))

    set_gradient_checkpointing(towers, "image")
    set_gradient_checkpointing(towers, "image", enabled=enabled)
    towers.encode_image(torch.randn(2, 3, *towers.image_size)).sum().backward()

    assert len(calls) == num_calls


@pytest.mark.parametrize("kind", ["vit", "eos", "siglip"])
def test_the_text_tower_alone(build, kind):
    towers = build(kind)
    transformer = getattr(towers.model, "text", towers.model).transformer
    image_transformer = getattr(towers.model.visual, "transformer", None)

    set_gradient_checkpointing(towers, "text")
    assert transformer.grad_checkpointing
    assert not getattr(image_transformer, "grad_checkpointing", False)

    set_gradient_checkpointing(towers, "text", enabled=False)
    assert not transformer.grad_checkpointing


def test_a_batch_norm_with_a_cumulative_average_counts_once(build):
    towers = build("resnet").train()
    for module in towers.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None

    set_gradient_checkpointing(towers, "image")
    towers.encode_image(torch.randn(2, 3, 64, 64)).sum().backward()

    norm = towers.model.visual.layer4[0].bn1
    assert norm.num_batches_tracked.item() == 1
    assert norm.momentum is None


def test_a_trunk_that_does_not_support_it(build):
    towers = build("timm")
    towers.model.visual.trunk = torch.nn.Identity()
    with pytest.raises(
        ValueError, match="an image tower that supports gradient checkpointing, got Identity"
    ):
        set_gradient_checkpointing(towers, "image")


@pytest.mark.unhooked
def test_an_unknown_tower(build):
    with pytest.raises(ValueError, match="tower to be one of both, image, text, got 'video'"):
        set_gradient_checkpointing(build("vit"), "video")

import copy

import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.clip import set_gradient_checkpointing

KINDS = ["vit", "resnet", "timm"]


def run(towers):
    """Outputs, gradients and buffers of one training step from one start."""
    twin = copy.deepcopy(towers).train()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, *twin.image_size, generator=generator)
    image, text = twin(images, twin.tokenize(["a coat", "a hat", "a bag", "a red bag"]))
    levels = twin.encode_image_levels(images, ["previous", "unprojected"])
    (
        image.square().sum()
        + text.square().sum()
        + levels.previous.sum()
        + levels.unprojected.sum()
    ).backward()
    gradients = {
        name: parameter.grad
        for name, parameter in twin.named_parameters()
        if parameter.grad is not None
    }
    return image, gradients, dict(twin.named_buffers())


@pytest.mark.parametrize("kind", KINDS)
def test_values_gradients_and_statistics_are_those_of_a_plain_step(build, kind):
    towers = build(kind)
    plain = run(towers)
    set_gradient_checkpointing(towers)
    found = run(towers)
    assert_close(found[0], plain[0], atol=1e-6, rtol=1e-6)
    for expected, values in zip(plain[1:], found[1:], strict=True):
        assert values.keys() == expected.keys()
        for name, value in expected.items():
            # a batch that is counted twice would move the statistics twice
            assert_close(
                values[name],
                value,
                atol=1e-4,
                rtol=1e-4,
                msg=lambda text, name=name: f"{name}: {text}",
            )


@pytest.mark.parametrize(
    ("kind", "part"), [("vit", "transformer"), ("resnet", "layer3"), ("timm", "trunk")]
)
def test_activations_are_computed_again(build, kind, part):
    towers = build(kind).train()
    module = getattr(towers.model.visual, part)
    inner = {
        "transformer": lambda: module.resblocks[0],
        "layer3": lambda: module[0],
        "trunk": lambda: module.blocks[0],
    }
    calls = []
    inner[part]().register_forward_pre_hook(lambda *arguments: calls.append(1))
    images = torch.randn(2, 3, *towers.image_size)
    for enabled, expected in ((True, 2), (False, 1)):
        set_gradient_checkpointing(towers, "image", enabled=enabled)
        calls.clear()
        towers.encode_image(images).sum().backward()
        assert len(calls) == expected


@pytest.mark.parametrize("kind", ["vit", "eos", "siglip"])
def test_text_alone(build, kind):
    towers = build(kind)
    set_gradient_checkpointing(towers, "text")
    transformer = getattr(towers.model, "text", towers.model).transformer
    assert transformer.grad_checkpointing
    assert not getattr(
        getattr(towers.model.visual, "transformer", None), "grad_checkpointing", False
    )
    set_gradient_checkpointing(towers, "text", enabled=False)
    assert not transformer.grad_checkpointing


def test_a_momentum_of_none_counts_once(build):
    towers = build("resnet").train()
    for module in towers.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    set_gradient_checkpointing(towers, "image")
    towers.encode_image(torch.randn(2, 3, 64, 64)).sum().backward()
    norm = towers.model.visual.layer4[0].bn1
    assert norm.num_batches_tracked.item() == 1
    assert norm.momentum is None


@pytest.mark.unhooked
def test_an_unknown_tower(build):
    with pytest.raises(ValueError, match="tower to be one of both, image, text, got 'video'"):
        set_gradient_checkpointing(build("vit"), "video")

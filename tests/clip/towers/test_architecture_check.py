import pytest
import torch

from clipreid_kit.clip.towers.architecture_check import check_architecture, describe_architecture

KINDS = ["vit", "resnet", "timm", "convnext", "siglip", "eos", "coca", "eva"]

# names in a ResNet of torchvision, a ViT of timm, and a CLIP model of Hugging Face
FOREIGN_NAMES = [
    "conv1.weight",
    "blocks.0.norm1.weight",
    "vision_model.embeddings.class_embedding",
]


def test_models_are_described(build):
    vit = describe_architecture(build("vit").model.state_dict())
    resnet = describe_architecture(build("resnet").state_dict())
    timm = describe_architecture(build("timm").state_dict())

    assert vit == (
        "a ViT with patches of 16, width 128 and 2 blocks and text of width 64 and 2 blocks"
    )
    assert resnet.startswith("a ResNet with 1-1-1-1 blocks and width 8 and")
    assert timm.startswith("a timm trunk with 3")


def test_other_tensors_are_described_by_their_number():
    assert describe_architecture({"w": torch.zeros(1)}) == "1 tensors, the first 'w'"
    assert describe_architecture({}) == "no tensors"


@pytest.mark.parametrize("kind", KINDS)
def test_a_models_own_weights_pass(build, configs, kind):
    towers = build(kind)
    check_architecture(kind, configs[kind], towers.state_dict())
    check_architecture(kind, configs[kind], towers.model.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_tensors_pass(configs, kind):
    """Loading them reports what is missing."""
    check_architecture(kind, configs[kind], {"model.visual.some": torch.zeros(1)})


@pytest.mark.parametrize("kind", ["vit", "siglip"])
@pytest.mark.parametrize("name", FOREIGN_NAMES)
def test_a_checkpoint_without_towers_is_refused(configs, kind, name):
    with pytest.raises(
        ValueError, match=f"for {kind}, got weights of 1 tensors, the first '{name}'"
    ):
        check_architecture(kind, configs[kind], {name: torch.zeros(3)})


def test_text_of_another_width(build, configs):
    configs["vit"]["text_cfg"] = {**configs["vit"]["text_cfg"], "width": 128}
    with pytest.raises(
        ValueError,
        match=r"text of width 128 and 2 blocks for vit, got .* text of width 64 and 2 blocks",
    ):
        check_architecture("vit", configs["vit"], build("resnet").state_dict())

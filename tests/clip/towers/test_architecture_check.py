import pytest
import torch

from clipreid_kit.clip.towers.architecture_check import check_architecture, describe_architecture


def test_models_are_described(build):
    assert describe_architecture(build("vit").model.state_dict()) == (
        "a ViT with patches of 16, width 128 and 2 blocks and text of width 64 and 2 blocks"
    )
    assert describe_architecture(build("resnet").state_dict()).startswith(
        "a ResNet with 1-1-1-1 blocks and width 8 and"
    )
    assert describe_architecture({"w": torch.zeros(1)}) == "1 tensors, the first w"
    assert describe_architecture({}) == "0 tensors, the first none"


@pytest.mark.parametrize(
    "kind", ["vit", "resnet", "timm", "convnext", "siglip", "eos", "coca", "eva"]
)
def test_a_model_s_own_weights_pass(build, configs, kind):
    towers = build(kind)
    check_architecture(kind, configs[kind], towers.state_dict())
    check_architecture(kind, configs[kind], towers.model.state_dict())
    named = {"model.visual.some": torch.zeros(1)}
    check_architecture(kind, configs[kind], named)  # too little is said by what loads it


@pytest.mark.parametrize(
    "name", ["conv1.weight", "blocks.0.norm1.weight", "vision_model.embeddings.class_embedding"]
)
def test_what_is_no_open_clip_model_is_refused(configs, name):
    """A ResNet of torchvision, a ViT of timm, a CLIP of Hugging Face."""
    for kind in ("vit", "siglip"):
        with pytest.raises(
            ValueError, match=f"for {kind}, got weights of 1 tensors, the first {name}"
        ):
            check_architecture(kind, configs[kind], {name: torch.zeros(3)})


def test_text_of_another_width(build, configs):
    configs["vit"]["text_cfg"] = {**configs["vit"]["text_cfg"], "width": 128}
    with pytest.raises(
        ValueError,
        match=r"text of width 128 and 2 blocks for vit, got .* text of width 64 and 2 blocks",
    ):
        check_architecture("vit", configs["vit"], build("resnet").state_dict())

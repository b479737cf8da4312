import pytest
import timm
import torch
import torchvision
from torch import nn

from clipreid_kit.clip.towers.trunk_blocks import trunk_blocks, trunk_depths


def on_meta(library, name):
    with torch.device("meta"):
        if library == "timm":
            return timm.create_model(name, num_classes=0)
        return torchvision.models.get_model(name)


@pytest.mark.parametrize(
    ("library", "name", "blocks"),
    [
        ("timm", "test_vit", [f"blocks.{number}" for number in range(6)]),
        ("timm", "test_resnet", ["layer1", "layer2", "layer3", "layer4"]),
        ("timm", "test_convnext", [f"stages.{number}" for number in range(4)]),
        ("timm", "swin_tiny_patch4_window7_224", [f"layers.{number}" for number in range(4)]),
        ("timm", "regnetx_002", ["s1", "s2", "s3", "s4"]),
        ("torchvision", "resnet18", ["layer1", "layer2", "layer3", "layer4"]),
        ("torchvision", "shufflenet_v2_x0_5", ["stage2", "stage3", "stage4"]),
        ("torchvision", "convnext_tiny", [f"features.{number}" for number in range(1, 8)]),
    ],
)
def test_blocks_are_those_of_the_library(library, name, blocks):
    assert list(trunk_blocks(on_meta(library, name))) == blocks


def test_depths_follow_the_order_of_the_modules():
    depths, num_blocks = trunk_depths(on_meta("timm", "test_vit"))

    assert num_blocks == 6
    assert depths["cls_token"] == depths["pos_embed"] == depths["patch_embed.proj.weight"] == 0
    assert depths["blocks.0.norm1.weight"] == 1
    assert depths["blocks.5.mlp.fc2.bias"] == 6
    assert depths["norm.weight"] == 7


def test_what_lies_between_two_blocks_belongs_to_the_later_one():
    trunk = nn.ModuleDict(
        {
            "conv": nn.Linear(1, 1),
            "stage1": nn.Linear(1, 1),
            "transition": nn.Linear(1, 1),
            "stage2": nn.Linear(1, 1),
            "norm": nn.Linear(1, 1),
        }
    )
    depths, num_blocks = trunk_depths(trunk)

    assert num_blocks == 2
    by_module = {name.partition(".")[0]: depth for name, depth in depths.items()}
    assert by_module == {"conv": 0, "stage1": 1, "transition": 2, "stage2": 2, "norm": 3}


def test_an_unknown_structure_has_no_blocks():
    assert trunk_blocks(nn.Linear(2, 2)) == {}
    assert trunk_depths(nn.Linear(2, 2)) == ({"weight": 1, "bias": 1}, 0)

import copy
import pickle

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.testing import assert_close
from torchvision.models.convnext import CNBlockConfig

from clipreid_kit.clip import ClipTowers, set_gradient_checkpointing
from clipreid_kit.clip.towers.backbone import BackboneTower
from clipreid_kit.clip.towers.torchvision_forward import remove_classifier

# small trunks of each form of output: tokens, feature maps, and maps with the channels last
TINY_VIT = {"img_size": (32, 16), "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
TINY_SWIN = {
    "img_size": (64, 64),
    "patch_size": 4,
    "window_size": 4,
    "embed_dim": 16,
    "depths": (1, 1, 2),
    "num_heads": (1, 2, 4),
    "drop_path_rate": 0.0,
}
TIMM = {
    "vit_tiny_patch16_224": TINY_VIT,
    "vit_small_patch16_dinov3": {
        "img_size": (32, 32),
        "patch_size": 8,
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 2,
    },
    "eva02_tiny_patch14_224": {
        "img_size": (28, 28),
        "embed_dim": 48,
        "depth": 2,
        "num_heads": 2,
    },
    "swin_tiny_patch4_window7_224": TINY_SWIN,
    "test_convnext": {},
    "test_resnet": {},
    "test_efficientnet": {},
    "mobilenetv3_small_050": {},
}
SIZES = dict.fromkeys(("test_convnext", "test_resnet", "test_efficientnet"), (64, 32))
SIZES["mobilenetv3_small_050"] = (64, 32)


def from_timm(name, **options):
    return ClipTowers.from_timm(name, options=TIMM[name], image_size=SIZES.get(name), **options)


def last_inputs(module, run):
    inputs = []
    handle = module.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    run()
    handle.remove()
    return inputs[0]


@pytest.mark.parametrize("name", TIMM)
@torch.no_grad()
def test_levels_of_a_trunk_of_timm(name):
    towers = from_timm(name).eval()
    trunk = towers.model.visual.trunk
    images = torch.randn(2, 3, *towers.image_size)

    levels = towers.encode_image_levels(images, ["previous", "unprojected", "projected", "patches"])

    assert_close(towers.encode_image(images), trunk(images))
    assert_close(levels.projected, trunk(images))
    assert_close(levels.unprojected, levels.projected)  # no projection was asked for
    rows, columns = levels.grid
    assert levels.grid == towers.grid
    assert levels.patches.shape[:2] == (2, rows * columns)
    assert levels.previous.shape == (2, towers.previous_width)
    assert towers.embed_dim == towers.width == levels.unprojected.shape[1]


@torch.no_grad()
def test_patches_of_a_trunk_without_class_token_are_averaged_by_it():
    towers = from_timm("swin_tiny_patch4_window7_224").eval()
    images = torch.randn(2, 3, *towers.image_size)

    levels = towers.encode_image_levels(images, ["unprojected", "patches"])

    assert levels.grid == (4, 4)
    assert_close(levels.patches.mean(dim=1), levels.unprojected)


@torch.no_grad()
def test_patches_of_a_vit_are_its_tokens_behind_the_class_token():
    towers = from_timm("vit_tiny_patch16_224").eval()
    trunk = towers.model.visual.trunk
    images = torch.randn(2, 3, 32, 16)

    tokens = trunk.forward_features(images)
    before_last = last_inputs(trunk.blocks[-1], lambda: trunk(images))
    levels = towers.encode_image_levels(images, ["previous", "unprojected", "patches"])

    assert levels.grid == (4, 2)
    assert_close(levels.unprojected, tokens[:, 0])
    assert_close(levels.patches, tokens[:, 1:])
    assert_close(levels.previous, before_last[:, 0])


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("resnet18", "layer4"),
        ("mobilenet_v3_small", "features.9"),
        ("shufflenet_v2_x0_5", "stage4"),
        ("efficientnet_b0", "features.6"),
    ],
)
@torch.no_grad()
def test_levels_of_a_convolutional_network_of_torchvision(name, stage):
    towers = ClipTowers.from_torchvision(name, image_size=(64, 32)).eval()
    trunk = towers.model.visual.trunk
    images = torch.randn(2, 3, 64, 32)

    before_last = last_inputs(trunk.get_submodule(stage), lambda: trunk(images))
    levels = towers.encode_image_levels(images, ["previous", "unprojected", "patches"])

    assert_close(levels.unprojected, trunk(images))
    assert_close(towers.encode_image(images), trunk(images))
    assert_close(levels.previous, before_last.mean(dim=(2, 3)))
    assert levels.grid == (2, 1)


def tower_of(model, image_size):
    """An image tower around a small model of torchvision, which has no small names."""
    remove_classifier("small", model)
    return BackboneTower(model, "torchvision", image_size).eval()


def small_model(family):
    models = torchvision.models
    match family:
        case "vit":
            return models.VisionTransformer(64, 16, 2, 2, 32, 32)
        case "swin":
            return models.SwinTransformer([4, 4], 8, [1, 1, 2], [1, 2, 4], [4, 4])
        case "densenet":
            return models.DenseNet(4, (1, 1, 1, 2), 8)
        case "regnet":
            return models.regnet_x_400mf()
        case "convnext":
            settings = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 2)]
            return models.ConvNeXt(settings)


@pytest.mark.parametrize("family", ["vit", "swin", "densenet", "regnet", "convnext"])
@torch.no_grad()
def test_the_embedding_is_what_the_classifier_of_torchvision_reads(family):
    tower = tower_of(small_model(family), (64, 64))
    images = torch.randn(2, 3, 64, 64)

    wanted = frozenset(("previous", "projected", "patches"))
    levels = tower.run(images, wanted)

    assert_close(levels["projected"], tower.trunk(images))
    assert levels["projected"].shape == (2, tower.embed_dim)
    assert levels["patches"].shape[1] == tower.shape.grid[0] * tower.shape.grid[1]


@torch.no_grad()
def test_previous_of_a_swin_of_torchvision_is_before_the_last_merging():
    tower = tower_of(small_model("swin"), (64, 64))
    images = torch.randn(2, 3, 64, 64)
    before_merging = last_inputs(tower.trunk.features[4], lambda: tower.trunk(images))

    levels = tower.run(images, frozenset(("previous",)))

    assert_close(levels["previous"], before_merging.mean(dim=(1, 2)))


@torch.no_grad()
def test_a_vit_of_torchvision_takes_rectangles():
    tower = tower_of(small_model("vit"), (64, 64))
    square = tower.shape.grid
    tower.set_image_size((96, 32))

    assert (square, tower.shape.grid) == ((4, 4), (6, 2))
    assert tower(torch.randn(2, 3, 96, 32)).shape == (2, 32)
    with pytest.raises(ValueError, match=r"a trunk that runs at 90 x 32 .*do not cover it"):
        tower.set_image_size((90, 32))


@pytest.mark.parametrize("make", [ClipTowers.from_timm, ClipTowers.from_torchvision])
@torch.no_grad()
def test_the_last_stride_doubles_the_last_map_of_a_resnet(make):
    plain = make(
        "resnet10t" if make.__name__ == "from_timm" else "resnet18", image_size=(64, 32)
    ).eval()
    towers = make(
        "resnet10t" if make.__name__ == "from_timm" else "resnet18",
        image_size=(64, 32),
        last_stride=1,
    ).eval()
    images = torch.randn(2, 3, 64, 32)

    assert (plain.grid, towers.grid) == ((2, 1), (4, 2))
    assert plain.state_dict().keys() == towers.state_dict().keys()
    levels = [one.encode_image_levels(images, ["previous"]).previous for one in (plain, towers)]
    assert_close(*levels)


def test_other_trunks_have_no_last_stride():
    with pytest.raises(ValueError, match="last_stride for a ResNet only, got 1 for ConvNeXt"):
        ClipTowers.from_timm("test_convnext", last_stride=1)


def test_a_projection_maps_what_is_pooled():
    towers = from_timm("test_convnext", embed_dim=8).eval()
    images = torch.randn(2, 3, 64, 32)
    levels = towers.encode_image_levels(images, ["unprojected", "projected"])

    head = towers.model.visual.head
    assert towers.embed_dim == 8
    assert_close(levels.projected, levels.unprojected @ head.weight.T)


def test_projected_patches_are_those_of_a_vit_only():
    towers = from_timm("vit_tiny_patch16_224", embed_dim=8).eval()
    images = torch.randn(2, 3, 32, 16)
    levels = towers.encode_image_levels(images, ["patches", "projected_patches"])
    assert_close(levels.projected_patches, towers.model.visual.head(levels.patches))

    towers = from_timm("test_resnet")
    with pytest.raises(ValueError, match="has no projected_patches"):
        towers.encode_image_levels(torch.randn(2, 3, 64, 32), ["projected_patches"])


def test_no_images_have_the_widths_of_images():
    towers = from_timm("mobilenetv3_small_050").eval()
    levels = ["previous", "unprojected", "projected", "patches"]
    found = towers.encode_image_levels(torch.zeros(0, 3, 64, 32), levels)
    expected = towers.encode_image_levels(torch.zeros(1, 3, 64, 32), levels)

    for level in levels:
        assert getattr(found, level).shape[1:] == getattr(expected, level).shape[1:]


@pytest.mark.parametrize(
    ("library", "name", "options"),
    [
        ("timm", "test_resnet", {}),
        ("timm", "vit_tiny_patch16_224", TINY_VIT),
        ("timm", "mobilenetv3_small_050", {}),
        ("torchvision", "mobilenet_v3_small", {}),
    ],
)
def test_gradient_checkpointing_changes_no_value_gradient_or_statistic(library, name, options):
    make = ClipTowers.from_timm if library == "timm" else ClipTowers.from_torchvision
    size = (32, 16) if "vit" in name else (64, 32)
    plain = make(name, image_size=size, options=options).train()
    recomputed = copy.deepcopy(plain)
    set_gradient_checkpointing(recomputed, "image")
    images = torch.randn(4, 3, *size)

    outputs = []
    for towers in (plain, recomputed):
        outputs.append(towers.encode_image(images))
        outputs[-1].square().mean().backward()

    assert_close(*outputs)
    for one, other in zip(plain.parameters(), recomputed.parameters(), strict=True):
        assert_close(one.grad, other.grad)
    for one, other in zip(plain.buffers(), recomputed.buffers(), strict=True):
        assert_close(one, other)


def test_gradient_checkpointing_recomputes_each_block_and_is_turned_off():
    towers = from_timm("test_resnet").train()
    calls = []
    towers.model.visual.trunk.layer2[0].register_forward_pre_hook(lambda *_: calls.append(1))
    images = torch.randn(2, 3, 64, 32)

    for enabled, expected in ((True, 2), (False, 1)):
        calls.clear()
        set_gradient_checkpointing(towers, "image", enabled=enabled)
        towers.encode_image(images).sum().backward()
        assert len(calls) == expected


def test_towers_with_gradient_checkpointing_are_copied_and_pickled():
    towers = from_timm("test_resnet").train()
    set_gradient_checkpointing(towers)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(towers)))

    twin.encode_image(torch.randn(2, 3, 64, 32)).sum().backward()

    assert twin.model.visual.trunk.layer1[0].conv1.weight.grad is not None
    assert towers.model.visual.trunk.layer1[0].conv1.weight.grad is None


def test_a_trunk_without_known_blocks_cannot_recompute():
    towers = from_timm("test_resnet")
    towers.model.visual.trunk = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="an image tower whose blocks are known, got Linear"):
        set_gradient_checkpointing(towers, "image")


def test_timm_is_the_oracle_of_its_own_weights():
    torch.manual_seed(3)
    trunk = timm.create_model("test_resnet", num_classes=7).eval()
    towers = from_timm("test_resnet").eval()
    towers.model.visual.trunk.load_state_dict(
        {k: v for k, v in trunk.state_dict().items() if not k.startswith("fc.")}
    )
    images = torch.randn(2, 3, 64, 32)
    expected = trunk.forward_head(trunk.forward_features(images), pre_logits=True)
    assert_close(towers.encode_image(images), expected)

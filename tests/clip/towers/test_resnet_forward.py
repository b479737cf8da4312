import pytest
import torch
from oracles.clip_towers import resnet_levels
from torch.testing import assert_close

from clipreid_kit.clip.towers.levels import LEVELS
from clipreid_kit.clip.towers.resnet_forward import pool_every_position, pool_mean_token

GEOMETRIES = [
    {"image_size": (64, 64)},
    {"image_size": (96, 64)},
    {"image_size": (64, 32), "last_stride": 1},
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_level_equals_the_oracle(build_randomized, geometry):
    towers = build_randomized("resnet", **geometry)
    visual = towers.model.visual
    state = {name: tensor.detach() for name, tensor in visual.state_dict().items()}
    last_stride = geometry.get("last_stride", 2)
    images = torch.randn(2, 3, *geometry["image_size"])

    with torch.no_grad():
        levels = towers.encode_image_levels(images, LEVELS)

    for row, image in enumerate(images):
        expected = resnet_levels(state, image, visual.attnpool.num_heads, last_stride)
        for level in LEVELS:
            assert_close(getattr(levels, level)[row], expected[level], atol=2e-5, rtol=2e-5)

    assert levels.grid == towers.grid
    assert levels.patches.shape[1] == towers.grid[0] * towers.grid[1]


def test_the_last_stage_runs_only_if_requested(build):
    towers = build("resnet")
    shapes = []
    last_stage = towers.model.visual.layer4
    last_stage.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    images = torch.randn(2, 3, 64, 64)

    towers.encode_image_levels(images, ["previous"])
    assert shapes == []

    towers.encode_image_levels(images, ["unprojected"])
    assert shapes == [(2, 256, 2, 2)]


def test_the_attention_pool_runs_for_one_token_unless_positions_are_requested(build):
    towers = build("resnet")
    shapes = []
    query = towers.model.visual.attnpool.q_proj
    query.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    images = torch.randn(2, 3, 64, 64)

    towers.encode_image_levels(images, ["unprojected", "patches"])
    assert shapes == []

    towers.encode_image_levels(images, ["projected"])
    towers.encode_image_levels(images, ["projected_patches"])
    assert shapes == [(2, 256), (2, 5, 256)]


@pytest.mark.parametrize("image_size", [(64, 64), (96, 32)])
def test_the_mean_token_is_pooled_as_if_every_position_were(build_randomized, image_size):
    pool = build_randomized("resnet", image_size=image_size).model.visual.attnpool
    features = torch.randn(3, 256, image_size[0] // 32, image_size[1] // 32, requires_grad=True)
    sources = [features, *pool.parameters()]
    wanted = torch.randn(3, 32)

    pooled = [pool_mean_token(pool, features), pool_every_position(pool, features)[:, 0]]
    slopes = [torch.autograd.grad((each * wanted).sum(), sources) for each in pooled]

    assert_close(pooled[0], pooled[1], atol=1e-5, rtol=1e-5)
    for own, expected in zip(*slopes, strict=True):  # also of the key's bias, which is 0
        assert_close(own, expected, atol=1e-5, rtol=1e-5)

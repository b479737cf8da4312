import pytest
import torch
from oracles.clip_towers import resnet_levels, vit_levels
from torch.testing import assert_close

from clipreid_kit.clip import CameraEmbedding
from clipreid_kit.clip.towers.geometry import geometry_of
from clipreid_kit.clip.towers.levels import LEVELS

GEOMETRIES = {
    "vit": [
        {"image_size": (64, 64)},
        {"image_size": (64, 32)},
        {"image_size": (50, 40), "patch_stride": (12, 7)},
    ],
    "resnet": [
        {"image_size": (64, 64)},
        {"image_size": (96, 64)},
        {"image_size": (64, 32), "last_stride": 1},
    ],
}
CASES = [(kind, geometry) for kind, geometries in GEOMETRIES.items() for geometry in geometries]


def shaken(towers):
    """Weights and statistics away from what initialisation leaves at 0 or 1."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in towers.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1 and "logit" not in name:
            tensor.add_(torch.rand(tensor.shape, generator=generator) / 4)
    return towers


def oracle(towers, image, **rows):
    visual = towers.model.visual
    state = {name: tensor.detach() for name, tensor in visual.state_dict().items()}
    last_stride = geometry_of(visual).last_stride
    if last_stride is None:
        heads = visual.transformer.resblocks[0].attn.num_heads
        return vit_levels(state, image, heads, visual.conv1.stride, **rows)
    return resnet_levels(state, image, visual.attnpool.num_heads, last_stride)


@pytest.fixture
def make(build):
    def of(kind, **geometry):
        return shaken(build(kind, **geometry))

    return of


@pytest.mark.parametrize(("kind", "geometry"), CASES)
def test_every_level_equals_the_papers(make, kind, geometry):
    towers = make(kind, **geometry)
    images = torch.randn(2, 3, *geometry["image_size"])
    with torch.no_grad():
        levels = towers.encode_image_levels(images, LEVELS)
        expected = [oracle(towers, image) for image in images]
    for level in LEVELS:
        value = torch.stack([one[level] for one in expected])
        assert_close(
            getattr(levels, level),
            value,
            atol=2e-5,
            rtol=2e-5,
            msg=lambda text, level=level: level + text,
        )
    assert levels.grid == towers.grid
    assert levels.patches.shape[1] == towers.grid[0] * towers.grid[1]
    widths = towers.previous_width, towers.width, towers.embed_dim
    assert (
        levels.previous.shape[1],
        levels.unprojected.shape[1],
        levels.projected.shape[1],
    ) == widths


@pytest.mark.parametrize("tokens", ["class", "all"])
def test_camera_rows_go_where_the_papers_add_them(make, tokens):
    towers = make("vit", image_size=(64, 32))
    towers.camera_embedding = CameraEmbedding(
        128, num_cameras=3, num_views=2, scale=3.0, tokens=tokens
    ).eval()
    torch.nn.init.normal_(towers.camera_embedding.table)
    images, cameras, views = torch.randn(2, 3, 64, 32), torch.tensor([2, 0]), torch.tensor([1, 0])
    with torch.no_grad():
        levels = towers.encode_image_levels(images, LEVELS, cameras=cameras, views=views)
        for row, image in enumerate(images):
            added = 3 * towers.camera_embedding.table[cameras[row] * 2 + views[row]]
            expected = oracle(
                towers, image, **{"class_rows" if tokens == "class" else "all_rows": added}
            )
            for level in LEVELS:
                assert_close(getattr(levels, level)[row], expected[level], atol=2e-5, rtol=2e-5)
        embedded = towers.encode_image(images, cameras=cameras, views=views)
        assert_close(embedded, levels.projected, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(embedded, towers.encode_image(images), atol=1e-3)
        both = towers(images, cameras=cameras, views=views).image
        assert torch.equal(both, embedded)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_only_what_is_asked_for_is_computed(build, kind):
    towers = build(kind)
    visual = towers.model.visual
    ran = []
    last = visual.transformer.resblocks[-1].mlp if kind == "vit" else visual.layer4
    last.register_forward_hook(lambda module, inputs, output: ran.append(tuple(output.shape)))
    images = torch.randn(2, 3, 64, 64)
    towers.encode_image_levels(images, ["previous"])
    assert ran == []
    towers.encode_image_levels(images, ["previous", "unprojected", "projected"])
    towers.encode_image_levels(images, ["patches"])
    # one token of a picture where the class token is read alone, all of them where patches are
    assert ran == ([(2, 1, 128), (2, 17, 128)] if kind == "vit" else [(2, 256, 2, 2)] * 2)


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
def test_gradient_of_every_level_equals_that_of_the_whole(build, kind):
    towers = build(kind)
    images = torch.randn(2, 3, *towers.image_size)
    gradients = []
    for wanted in (("previous", "unprojected", "projected"), LEVELS):
        towers.zero_grad()
        levels = towers.encode_image_levels(images, wanted)
        sum(getattr(levels, level).square().sum() for level in LEVELS[:3]).backward()
        gradients.append(
            {name: p.grad.clone() for name, p in towers.named_parameters() if p.grad is not None}
        )
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[1].items():
        assert_close(gradients[0][name], gradient, atol=1e-3, rtol=1e-3)


def test_gradient_reaches_the_camera_rows(build):
    towers = build("vit")
    towers.camera_embedding = CameraEmbedding(128, num_cameras=3)
    towers.train()
    towers.encode_image(torch.randn(2, 3, 64, 64), cameras=torch.tensor([0, 2])).sum().backward()
    moved = towers.camera_embedding.table.grad.abs().sum(dim=1) > 0
    assert moved.tolist() == [True, False, True]
    assert any(
        parameter is towers.camera_embedding.table for parameter in towers.image_parameters()
    )


def test_dropped_patches_have_no_grid(build, configs):
    configs["vit"]["vision_cfg"]["patch_dropout"] = 0.5
    towers = build("vit")
    images = torch.zeros(1, 3, 64, 64)
    towers.encode_image_levels(images, ["patches"])
    with pytest.raises(
        ValueError, match=r"Patch dropout of 0\.5 leaves no complete grid of patches"
    ):
        towers.train().encode_image_levels(images, ["patches"])

import itertools

import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.clip import CameraEmbedding
from clipreid_kit.clip.towers.levels import LEVELS, level_widths

ALL_KINDS = ["vit", "resnet", "timm", "convnext", "siglip", "eva"]
COMMON_LEVELS = LEVELS[:4]  # those that every tower here has


def shapes(levels):
    return [getattr(levels, level).shape for level in COMMON_LEVELS]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_each_choice_of_levels_returns_the_same_numbers(build, kind):
    towers = build(kind)
    images = torch.randn(2, 3, *towers.image_size)
    available = COMMON_LEVELS if kind in ("convnext", "siglip") else LEVELS

    with torch.no_grad():
        whole = towers.encode_image_levels(images, available)
        choices = list(itertools.combinations(available, 1))
        if kind in ("vit", "resnet"):  # levels of other trunks are taken from one list of outputs
            choices += itertools.combinations(available, 2)
        for requested in choices:
            levels = towers.encode_image_levels(images, requested)
            for level in LEVELS:
                found = getattr(levels, level)
                if level in requested:
                    assert_close(found, getattr(whole, level), atol=1e-5, rtol=1e-5)
                else:
                    assert found is None


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_levels_agree_with_the_embedding_and_the_stated_widths(build, kind):
    towers = build(kind)
    images = torch.randn(2, 3, *towers.image_size)

    with torch.no_grad():
        levels = towers.encode_image_levels(images, COMMON_LEVELS)
        embeddings = towers.encode_image(images)

    assert_close(levels.projected, embeddings, atol=1e-5, rtol=1e-5)
    widths = (levels.previous.shape[1], levels.unprojected.shape[1])
    assert widths == level_widths(towers.model.visual)
    rows, columns = levels.grid
    assert levels.patches.shape == (2, rows * columns, towers.width)


@pytest.mark.parametrize("kind", ["vit", "resnet", "siglip"])
def test_no_images_return_no_rows_of_the_same_widths(build, kind):
    towers = build(kind)

    one = towers.encode_image_levels(torch.randn(1, 3, *towers.image_size), COMMON_LEVELS)
    none = towers.encode_image_levels(torch.zeros(0, 3, *towers.image_size), COMMON_LEVELS)

    assert shapes(none) == [(0, *shape[1:]) for shape in shapes(one)]


def test_no_images_return_projected_patches_too(build):
    towers = build("vit", image_size=(64, 32))
    none = towers.encode_image_levels(torch.zeros(0, 3, 64, 32), ["projected_patches"])
    assert none.projected_patches.shape == (0, 8, towers.embed_dim)
    assert none.projected is None


@pytest.mark.parametrize("kind", ["vit", "resnet", "siglip"])
def test_runs_under_autocast(build, kind):
    towers = build(kind)
    images = torch.randn(2, 3, *towers.image_size)

    with torch.no_grad():
        exact = towers.encode_image_levels(images, COMMON_LEVELS)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            fast = towers.encode_image_levels(images, COMMON_LEVELS)

    for level in COMMON_LEVELS:
        expected = getattr(exact, level)
        tolerance = 0.05 * float(expected.abs().max())
        assert_close(getattr(fast, level).float(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
def test_gradients_equal_those_of_all_levels(build, kind):
    """The last block and the attention pool run for one token if no patch is requested."""
    towers = build(kind)
    images = torch.randn(2, 3, *towers.image_size)
    class_levels = ("previous", "unprojected", "projected")

    def gradients(requested):
        towers.zero_grad()
        levels = towers.encode_image_levels(images, requested)
        sum(getattr(levels, level).square().sum() for level in class_levels).backward()
        return {
            name: parameter.grad.clone()
            for name, parameter in towers.named_parameters()
            if parameter.grad is not None
        }

    found, expected = gradients(class_levels), gradients(LEVELS)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_close(found[name], gradient, atol=1e-3, rtol=1e-3)


def test_gradient_reaches_the_camera_rows(build):
    towers = build("vit")
    towers.camera_embedding = CameraEmbedding(128, num_cameras=3)
    towers.train()
    table = towers.camera_embedding.table

    images, cameras = torch.randn(2, 3, 64, 64), torch.tensor([0, 2])
    towers.encode_image(images, cameras=cameras).sum().backward()

    has_gradient = table.grad.abs().sum(dim=1) > 0
    assert has_gradient.tolist() == [True, False, True]
    assert any(parameter is table for parameter in towers.image_parameters())


@pytest.mark.parametrize(
    ("kind", "levels", "match"),
    [
        ("vit", ["last"], r"each level to be one of previous, unprojected, .* got 'last'"),
        ("vit", [], r"levels as a sequence of at least one name, got \[\]"),
        ("vit", "previous", r"levels as a sequence of at least one name, got 'previous'"),
        (
            "siglip",
            ["projected_patches"],
            r"This tower projects what it has pooled, so it has no projected_patches",
        ),
        ("coca", ["patches"], r"A tower with attentional pooling has no patch levels"),
    ],
)
@pytest.mark.unhooked
def test_levels_that_a_tower_does_not_have(build, kind, levels, match):
    towers = build(kind)
    with pytest.raises(ValueError, match=match):
        towers.encode_image_levels(torch.zeros(1, 3, *towers.image_size), levels)


@pytest.mark.parametrize(
    ("kind", "ids"), [("vit", "cameras"), ("vit", "views"), ("resnet", "views")]
)
def test_cameras_and_views_need_an_embedding(build, kind, ids):
    images = torch.zeros(1, 3, 64, 64)
    with pytest.raises(
        ValueError, match="no camera embedding for cameras or views; build them with num_cameras"
    ):
        build(kind).encode_image(images, **{ids: torch.tensor([0])})


@pytest.mark.slow
@pytest.mark.unhooked
@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
def test_the_embedding_compiles_whole(build, kind):
    towers = build(kind)
    images = torch.randn(2, 3, *towers.image_size)
    compiled = torch.compile(towers.encode_image, backend="aot_eager", fullgraph=True)
    assert_close(compiled(images), towers.encode_image(images), atol=1e-5, rtol=1e-5)


@pytest.mark.unhooked
@pytest.mark.parametrize("kind", ["vit", pytest.param("resnet", marks=pytest.mark.slow)])
def test_levels_compile_whole(build, kind):
    towers = build(kind)
    images = torch.randn(2, 3, *towers.image_size)
    requested = ["previous", "projected"]
    compiled = torch.compile(towers.encode_image_levels, backend="aot_eager", fullgraph=True)

    found, expected = compiled(images, requested), towers.encode_image_levels(images, requested)

    assert_close(found.previous, expected.previous, atol=1e-5, rtol=1e-5)
    assert_close(found.projected, expected.projected, atol=1e-5, rtol=1e-5)


def test_channels_last_changes_the_memory_layout_alone(build):
    towers = build("resnet", image_size=(64, 32))
    images = torch.randn(2, 3, 64, 32)

    with torch.no_grad():
        expected = towers.encode_image_levels(images, LEVELS)
        towers.to(memory_format=torch.channels_last)
        found = towers.encode_image_levels(images, LEVELS)

    for level in LEVELS:
        assert_close(getattr(found, level), getattr(expected, level), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "part"), [("vit", "transformer.resblocks.1.mlp"), ("resnet", "attnpool.q_proj")]
)
def test_training_runs_the_last_layer_for_one_token(build, kind, part):
    towers = build(kind)
    layer = towers.model.visual.get_submodule(part)
    tokens = []
    layer.register_forward_hook(lambda module, inputs, output: tokens.append(inputs[0][0].numel()))
    images = torch.randn(2, 3, *towers.image_size)

    towers.train()
    found = towers.encode_image(images)
    if kind == "vit":  # a BatchNorm makes the values of training mode others
        assert_close(found, towers.eval().encode_image(images), atol=1e-5, rtol=1e-5)
        assert tokens == [128, 128 * 17]  # the class token of 128 numbers, then all 17 tokens
    else:
        assert tokens == [256]

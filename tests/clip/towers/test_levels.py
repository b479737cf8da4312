import itertools

import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.clip.towers.levels import LEVELS, level_widths

ALL_KINDS = ["vit", "resnet", "timm", "convnext", "siglip", "eva"]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_each_choice_of_levels_gives_the_same_numbers(build, kind):
    towers = build(kind)
    has = [
        level
        for level in LEVELS
        if not (level == "projected_patches" and kind in ("convnext", "siglip"))
    ]
    images = torch.randn(2, 3, *towers.image_size)
    with torch.no_grad():
        whole = towers.encode_image_levels(images, has)
        assert_close(whole.projected, towers.encode_image(images), atol=1e-5, rtol=1e-5)
        for count in (1, 2):
            for wanted in itertools.combinations(has, count):
                levels = towers.encode_image_levels(images, wanted)
                for level in LEVELS:
                    value = getattr(levels, level)
                    assert (value is not None) == (level in wanted)
                    if value is not None:
                        assert_close(value, getattr(whole, level), atol=1e-5, rtol=1e-5)
    assert (whole.previous.shape[1], whole.unprojected.shape[1]) == level_widths(
        towers.model.visual
    )
    rows, columns = whole.grid
    assert whole.patches.shape == (2, rows * columns, towers.width)


@pytest.mark.parametrize("kind", ["vit", "resnet", "siglip"])
def test_no_pictures_give_no_rows_of_the_right_widths(build, kind):
    towers = build(kind)
    some = towers.encode_image_levels(torch.randn(1, 3, *towers.image_size), LEVELS[:4])
    none = towers.encode_image_levels(torch.zeros(0, 3, *towers.image_size), LEVELS[:4])
    for level in LEVELS[:4]:
        assert getattr(none, level).shape == (0, *getattr(some, level).shape[1:])


@pytest.mark.parametrize("kind", ["vit", "resnet", "siglip"])
def test_runs_under_autocast(build, kind):
    towers = build(kind)
    images = torch.randn(2, 3, *towers.image_size)
    with torch.no_grad():
        exact = towers.encode_image_levels(images, LEVELS[:4])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            fast = towers.encode_image_levels(images, LEVELS[:4])
    for level in LEVELS[:4]:
        value = getattr(exact, level)
        assert_close(
            getattr(fast, level).float(), value, atol=0.05 * float(value.abs().max()), rtol=0
        )


@pytest.mark.parametrize(
    ("kind", "levels", "match"),
    [
        ("vit", ["last"], r"each level to be one of previous, unprojected, .* got 'last'"),
        ("vit", [], r"levels as a sequence of at least one name, got \[\]"),
        (
            "siglip",
            ["projected_patches"],
            r"This tower projects what it has pooled, so it has no projected_patches",
        ),
        ("coca", ["patches"], r"A tower with attentional pooling has no patch levels"),
    ],
)
@pytest.mark.unhooked
def test_levels_that_are_not_there(build, kind, levels, match):
    towers = build(kind)
    with pytest.raises(ValueError, match=match):
        towers.encode_image_levels(torch.zeros(1, 3, *towers.image_size), levels)


def test_cameras_without_an_embedding(build):
    with pytest.raises(
        ValueError, match="no camera embedding for cameras or views; build them with num_cameras"
    ):
        build("vit").encode_image(torch.zeros(1, 3, 64, 64), cameras=torch.tensor([0]))
    with pytest.raises(ValueError, match="no camera embedding for cameras or views"):
        build("resnet")(torch.zeros(1, 3, 64, 64), views=torch.tensor([0]))


@pytest.mark.unhooked
@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
def test_compiles(build, kind):
    towers = build(kind)
    images = torch.randn(2, 3, *towers.image_size)
    compiled = torch.compile(towers.encode_image, backend="aot_eager", fullgraph=True)
    assert_close(compiled(images), towers.encode_image(images), atol=1e-5, rtol=1e-5)
    if kind != "timm":
        levels = torch.compile(towers.encode_image_levels, backend="aot_eager", fullgraph=True)
        found, expected = (
            run(images, ["previous", "projected"]) for run in (levels, towers.encode_image_levels)
        )
        assert_close(found.previous, expected.previous, atol=1e-5, rtol=1e-5)
        assert_close(found.projected, expected.projected, atol=1e-5, rtol=1e-5)


def test_channels_last_changes_nothing_but_the_layout(build):
    towers = build("resnet", image_size=(64, 32))
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        expected = towers.encode_image_levels(images, LEVELS)
        towers.to(memory_format=torch.channels_last)
        found = towers.encode_image_levels(images, LEVELS)
    for level in LEVELS:
        assert_close(getattr(found, level), getattr(expected, level), atol=1e-5, rtol=1e-5)

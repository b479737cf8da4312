import pytest
from open_clip.transformer import VisionTransformer

from clipreid_kit.clip.towers.geometry import (
    Geometry,
    check_geometry,
    check_image_size,
    geometry_of,
    grid_of,
)


@pytest.mark.parametrize(
    "size", [(0, 64), (64, -1), (True, 64), (64.0, 64), (64,), "64", 64, [64, 32, 3]]
)
def test_invalid_image_sizes(size):
    with pytest.raises(ValueError, match=r"expected image_size as \(height, width\) in pixels"):
        check_image_size(size)


def test_a_list_is_an_image_size():
    assert check_image_size([64, 32]) == (64, 32)


def test_overlapping_patches_of_clip_reid():
    visual = VisionTransformer(224, 16, width=64, layers=1, heads=1, mlp_ratio=1)

    assert grid_of(visual) == (14, 14)
    assert grid_of(visual, Geometry((256, 128))) == (16, 8)
    assert grid_of(visual, Geometry((256, 128), patch_stride=(12, 12))) == (21, 10)
    assert geometry_of(visual) == Geometry((224, 224), patch_stride=(16, 16))


def test_a_last_stride_of_one_doubles_the_feature_map(build):
    visual = build("resnet").model.visual

    assert grid_of(visual, Geometry((256, 128))) == (8, 4)
    assert grid_of(visual, Geometry((256, 128), last_stride=1)) == (16, 8)
    assert geometry_of(visual).last_stride == 2


@pytest.mark.parametrize(
    ("kind", "requested", "match"),
    [
        (
            "resnet",
            Geometry(patch_stride=(12, 12)),
            r"patch_stride for a ViT of open_clip only, got .* ModifiedResNet",
        ),
        (
            "vit",
            Geometry(last_stride=1),
            "last_stride for a ResNet only, got 1 for VisionTransformer",
        ),
        ("timm", Geometry(patch_stride=(8, 8)), "patch_stride for a ViT of open_clip only"),
        (
            "timm",
            Geometry(position_resize="clip_reid"),
            r'position_resize="bicubic" for a trunk of timm',
        ),
        ("resnet", Geometry((128, 40), last_stride=1), r"patches of 16 x 16 .* got 128 x 40"),
    ],
)
def test_geometries_that_a_tower_cannot_have(build, kind, requested, match):
    visual = build(kind).model.visual
    with pytest.raises(ValueError, match=match):
        grid_of(visual, requested)


def test_arguments_become_a_geometry():
    geometry = check_geometry((64, 32), 12, 1, "clip_reid")
    assert geometry == Geometry((64, 32), (12, 12), 1, "clip_reid")
    assert check_geometry(None, (12, 8), None, "bicubic").patch_stride == (12, 8)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (((64, 0), None, None, "bicubic"), "image_size as"),
        (
            (None, 0, None, "bicubic"),
            r"patch_stride as one number or \(down, across\) in pixels, or None, got \(0, 0\)",
        ),
        ((None, "12", None, "bicubic"), r"patch_stride as one number .* got '12'"),
        ((None, None, 3, "bicubic"), "last_stride to be 1, 2 or None, got 3"),
        ((None, None, True, "bicubic"), "last_stride to be 1, 2 or None, got True"),
    ],
)
@pytest.mark.unhooked
def test_invalid_arguments(arguments, match):
    with pytest.raises(ValueError, match=match):
        check_geometry(*arguments)

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import clipreid_kit.clip.towers.build as build_module
from clipreid_kit.clip import (
    ClipTowers,
    load_towers,
    load_weights,
    resize_position_embedding,
    save_towers,
)

TABLES = {"vit": "positional_embedding", "resnet": "attnpool.positional_embedding"}


def differing_names(before, after):
    return {
        name
        for name, tensor in before.items()
        if tensor.shape != after[name].shape or not torch.equal(tensor, after[name])
    }


def test_overlapping_patches_keep_every_weight_but_the_table(build):
    native = build("vit").model.visual.state_dict()
    towers = build("vit", image_size=(64, 40), patch_stride=(12, 12))
    overlapping = towers.model.visual.state_dict()

    assert towers.grid == (5, 3)
    assert differing_names(native, overlapping) == {"positional_embedding"}
    expected = resize_position_embedding(native["positional_embedding"], (4, 4), (5, 3))
    assert torch.equal(overlapping["positional_embedding"], expected)
    assert towers.encode_image(torch.randn(2, 3, 64, 40)).isfinite().all()


def test_a_stride_alone_at_the_native_size(build):
    assert build("vit", patch_stride=(8, 8)).grid == (7, 7)
    assert build("resnet", last_stride=1).grid == (4, 4)


def test_the_last_stride_needs_no_other_weights(build):
    native = build("resnet")
    towers = build("resnet", image_size=(64, 32), last_stride=1)

    assert native.state_dict().keys() == towers.state_dict().keys()
    assert towers.grid == (4, 2)
    towers.encode_image(torch.randn(2, 3, 64, 32)).sum().backward()


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_the_table_of_clip_reid_is_bilinear(build, kind):
    bicubic = build(kind, image_size=(128, 64))
    bilinear = build(kind, image_size=(128, 64), position_resize="clip_reid")
    table, by_bicubic, by_bilinear = (
        towers.model.visual.get_parameter(TABLES[kind]).detach()
        for towers in (build(kind), bicubic, bilinear)
    )

    side = 4 if kind == "vit" else 2
    image = table[1:].T.reshape(1, -1, side, side)
    expected = F.interpolate(image, size=bilinear.grid, mode="bilinear").flatten(2)[0].T

    assert_close(by_bilinear[1:], expected)
    assert not torch.allclose(by_bicubic, by_bilinear)


def test_loaded_weights_are_resized_by_the_method_of_the_towers(build):
    native = build("vit", seed=4)
    towers = build("vit", image_size=(128, 64), position_resize="clip_reid")

    report = load_weights(towers, native.model.state_dict(), source_image_size=(64, 64))

    assert report.resized == ("model.visual.positional_embedding",)
    expected = resize_position_embedding(
        native.model.visual.positional_embedding, (4, 4), (8, 4), method="clip_reid"
    )
    assert torch.equal(towers.model.visual.positional_embedding, expected)


@pytest.mark.parametrize(
    ("kind", "geometry"),
    [
        ("vit", {"image_size": (64, 40), "patch_stride": (12, 12)}),
        ("resnet", {"image_size": (64, 48), "last_stride": 1}),
    ],
)
def test_native_weights_at_another_stride(build, tmp_path, kind, geometry):
    native = build(kind, seed=4).model.state_dict()
    torch.save(native, tmp_path / "native.pt")

    built = build(kind, tmp_path / "native.pt", **geometry)
    loaded = build(kind, **geometry)
    report = load_weights(loaded, native, source_image_size=(64, 64))

    assert len(report.resized) == 1
    assert differing_names(built.state_dict(), loaded.state_dict()) == set()


def test_strides_and_cameras_are_saved(tmp_path):
    towers = ClipTowers.from_open_clip(
        "reid-tiny-vit",
        image_size=(32, 16),
        patch_stride=(4, 6),
        num_cameras=3,
        num_views=2,
        position_resize="clip_reid",
    ).eval()
    towers.camera_embedding.scale = 3.0
    towers.camera_embedding.tokens = "all"

    save_towers(towers, tmp_path)
    twin = load_towers(tmp_path).eval()

    assert (twin.grid, twin.position_resize) == (towers.grid, "clip_reid")
    images, cameras, views = torch.randn(2, 3, 32, 16), torch.tensor([0, 2]), torch.tensor([1, 0])
    found, expected = (
        one.encode_image(images, cameras=cameras, views=views) for one in (twin, towers)
    )
    assert torch.equal(found, expected)


def test_the_last_stride_is_saved(tmp_path):
    towers = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(64, 48), last_stride=1)
    save_towers(towers, tmp_path)
    assert load_towers(tmp_path).grid == (4, 3)


class TestWeightsOfAnotherModel:
    @pytest.fixture
    def save(self, build, tmp_path, monkeypatch):
        """Write the weights of a kind of model, and let nothing be built afterwards."""
        states = {kind: build(kind).model.state_dict() for kind in ("vit", "resnet", "timm")}
        states["torchvision"] = {
            "conv1.weight": torch.zeros(64, 3, 7, 7),
            "layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1),
        }
        monkeypatch.setattr(build_module, "build_model", lambda *arguments: pytest.fail("built"))

        def write(kind):
            torch.save(states[kind], tmp_path / "other.pt")
            return tmp_path / "other.pt"

        return write

    @pytest.mark.parametrize(
        ("wanted", "found", "match"),
        [
            (
                "vit",
                "resnet",
                r"weights of a ViT with patches of 16, width 128 and 2 blocks .* for vit, "
                r"got weights of a ResNet",
            ),
            (
                "resnet",
                "vit",
                r"a ResNet with 1-1-1-1 blocks and width 8 .* got weights of a ViT with patches "
                r"of 16",
            ),
            ("vit", "timm", r"got weights of a timm trunk with \d+ parameters"),
            ("timm", "vit", r"weights of the timm trunk test_vit .* got weights of a ViT"),
            ("vit", "torchvision", r"got weights of 2 tensors, the first 'conv1\.weight'"),
        ],
    )
    def test_are_refused_before_anything_is_built(self, build, save, wanted, found, match):
        with pytest.raises(ValueError, match=match):
            build(wanted, save(found))


@pytest.mark.parametrize(("kind", "size"), [("siglip", (160, 80)), ("eva", (112, 56))])
def test_trunks_of_timm_run_at_rectangles(build, kind, size):
    towers = build(kind, image_size=size)
    assert towers.image_size == size
    towers.encode_image(torch.randn(1, 3, *size)).sum().backward()

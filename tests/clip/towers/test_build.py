import pytest
import torch
from torch.testing import assert_close

import clipreid_kit.clip.towers.build as assemble_module
from clipreid_kit.clip import (
    ClipTowers,
    load_towers,
    load_weights,
    resize_position_embedding,
    save_towers,
)


def test_overlapping_patches_keep_every_weight_but_the_table(build):
    native, other = build("vit"), build("vit", image_size=(64, 40), patch_stride=(12, 12))
    assert other.grid == (5, 3)
    before, after = native.model.visual.state_dict(), other.model.visual.state_dict()
    changed = {
        name
        for name in before
        if not (before[name].shape == after[name].shape and before[name].equal(after[name]))
    }
    assert changed == {"positional_embedding"}
    expected = resize_position_embedding(before["positional_embedding"], (4, 4), (5, 3))
    assert torch.equal(after["positional_embedding"], expected)
    assert other.encode_image(torch.randn(2, 3, 64, 40)).isfinite().all()


def test_a_stride_alone_at_the_native_size(build):
    assert build("vit", patch_stride=(8, 8)).grid == (7, 7)
    assert build("resnet", last_stride=1).grid == (4, 4)


def test_the_last_stride_needs_no_other_weights(build):
    native, other = build("resnet"), build("resnet", image_size=(64, 32), last_stride=1)
    assert native.state_dict().keys() == other.state_dict().keys()
    assert other.grid == (4, 2)
    other.encode_image(torch.randn(2, 3, 64, 32)).sum().backward()


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_clip_reid_s_table_is_another(build, kind):
    bicubic = build(kind, image_size=(128, 64))
    bilinear = build(kind, image_size=(128, 64), position_resize="clip_reid")
    key = "positional_embedding" if kind == "vit" else "attnpool.positional_embedding"
    table = build(kind).model.visual.get_parameter(key)
    side = 4 if kind == "vit" else 2
    grid = table[1:].detach().T.reshape(1, -1, side, side)
    expected = (
        torch.nn.functional.interpolate(grid, size=bilinear.grid, mode="bilinear").flatten(2)[0].T
    )
    assert_close(bilinear.model.visual.get_parameter(key)[1:].detach(), expected)
    assert not torch.allclose(
        bicubic.model.visual.get_parameter(key), bilinear.model.visual.get_parameter(key)
    )


def test_a_file_takes_the_method_of_the_towers(build, tmp_path):
    native = build("vit", seed=4)
    towers = build("vit", image_size=(128, 64), position_resize="clip_reid")
    report = load_weights(towers, native.model.state_dict(), source_image_size=(64, 64))
    assert report.resized == ("model.visual.positional_embedding",)
    expected = resize_position_embedding(
        native.model.visual.positional_embedding, (4, 4), (8, 4), method="clip_reid"
    )
    assert torch.equal(towers.model.visual.positional_embedding, expected)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_native_weights_into_another_stride(build, tmp_path, kind):
    stride = {"patch_stride": (12, 12)} if kind == "vit" else {"last_stride": 1}
    size = (64, 40) if kind == "vit" else (64, 48)
    native = build(kind, seed=4)
    torch.save(native.model.state_dict(), tmp_path / "native.pt")
    built = build(kind, tmp_path / "native.pt", image_size=size, **stride)
    loaded = build(kind, image_size=size, **stride)
    report = load_weights(loaded, native.model.state_dict(), source_image_size=(64, 64))
    assert len(report.resized) == 1
    for name, tensor in built.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_strides_and_cameras_are_saved(tmp_path):
    towers = ClipTowers.from_open_clip(
        "reid-tiny-vit",
        image_size=(32, 16),
        patch_stride=(4, 6),
        num_cameras=3,
        num_views=2,
        position_resize="clip_reid",
    )
    towers.camera_embedding.scale, towers.camera_embedding.tokens = 3.0, "all"
    save_towers(towers, tmp_path / "vit")
    twin = load_towers(tmp_path / "vit").eval()
    assert (twin.grid, twin.position_resize) == (towers.grid, "clip_reid")
    images, cameras, views = torch.randn(2, 3, 32, 16), torch.tensor([0, 2]), torch.tensor([1, 0])
    found = twin.encode_image(images, cameras=cameras, views=views)
    assert torch.equal(found, towers.eval().encode_image(images, cameras=cameras, views=views))
    towers = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(64, 48), last_stride=1)
    save_towers(towers, tmp_path / "resnet")
    assert load_towers(tmp_path / "resnet").grid == (4, 3)


def test_a_wrong_file_is_refused_before_anything_is_built(build, tmp_path, monkeypatch):
    states = {kind: build(kind).model.state_dict() for kind in ("vit", "resnet", "timm")}
    states["none"] = {
        "conv1.weight": torch.zeros(64, 3, 7, 7),
        "layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1),
    }
    monkeypatch.setattr(assemble_module, "build_model", lambda *arguments: pytest.fail("built"))
    for kind, there, match in [
        (
            "vit",
            "resnet",
            r"weights of a ViT with patches of 16, width 128 and 2 blocks .* for vit, got weights of a ResNet",
        ),
        (
            "resnet",
            "vit",
            r"a ResNet with 1-1-1-1 blocks and width 8 .* got weights of a ViT with patches of 16",
        ),
        ("vit", "timm", r"got weights of a timm trunk with \d+ parameters"),
        ("timm", "vit", r"weights of the timm trunk test_vit .* got weights of a ViT"),
        ("vit", "none", r"got weights of 2 tensors, the first conv1\.weight"),
    ]:
        torch.save(states[there], tmp_path / "other.pt")
        with pytest.raises(ValueError, match=match):
            build(kind, tmp_path / "other.pt")


@pytest.mark.parametrize("kind", ["siglip", "eva"])
def test_trunks_of_timm_take_rectangles_and_keep_their_numbers(build, kind):
    size = (160, 80) if kind == "siglip" else (112, 56)
    towers = build(kind, image_size=size)
    assert towers.image_size == size
    towers.encode_image(torch.randn(1, 3, *size)).sum().backward()

import sys

import pytest
import torch
from torch.testing import assert_close

import clipreid_kit.clip.checkpoints.onnx_export as export_module
from clipreid_kit.clip import CameraEmbedding, export_image_tower


@pytest.fixture
def onnxruntime():
    pytest.importorskip("onnxscript", reason="the extra export")
    return pytest.importorskip("onnxruntime", reason="the extra export")


@pytest.mark.slow
@pytest.mark.unhooked  # the exporter traces, which the hook prevents
@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
def test_the_file_returns_the_same_numbers_for_any_batch(build, tmp_path, onnxruntime, kind):
    size = None if kind == "timm" else (64, 32)
    towers = build(kind, image_size=size).train()
    if kind == "vit":
        towers.camera_embedding = CameraEmbedding(128, num_cameras=2)
    normalize = kind != "resnet"
    path = tmp_path / "tower.onnx"

    difference = export_image_tower(towers, path, normalize=normalize)

    assert 0 <= difference <= 1e-4
    assert towers.training
    assert list(tmp_path.iterdir()) == [path]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    towers.eval()
    for count in (1, 2, 7):
        images = torch.randn(count, 3, *towers.image_size)
        found = session.run(["embeddings"], {"images": images.numpy()})[0]
        with torch.no_grad():
            expected = towers.encode_image(images, normalize=normalize)
        assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.unhooked
def test_towers_in_half_precision_are_exported_in_float32(build, tmp_path, onnxruntime):
    towers = build("vit", image_size=(64, 32)).to(torch.bfloat16)
    path = tmp_path / "tower.onnx"

    assert export_image_tower(towers, path) <= 1e-4
    assert next(towers.parameters()).dtype == torch.bfloat16

    images = torch.randn(2, 3, 64, 32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(["embeddings"], {"images": images.numpy()})[0]
    with torch.no_grad():
        expected = towers.float().eval().encode_image(images, normalize=True)
    assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.unhooked
@pytest.mark.usefixtures("onnxruntime")
def test_a_file_that_differs_is_not_kept(build, tmp_path, monkeypatch):
    write = export_module.write_graph

    def write_another(owner, module, images, path):
        other = export_module._ImageTower(build("vit", seed=9), normalize=True)
        write(owner, other, images, path)

    monkeypatch.setattr(export_module, "write_graph", write_another)
    reported = []
    with pytest.raises(ValueError, match=r"outputs that differ by at most 0.0001, got 0\.\d+"):
        export_image_tower(
            build("vit"),
            tmp_path / "tower.onnx",
            progress=lambda *counts: reported.append(counts),
        )
    assert list(tmp_path.iterdir()) == []
    # the graph, and two batches by the file and by the tower
    assert reported == [(done, 5) for done in range(6)]


def test_a_missing_extra_is_named(build, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ValueError,
        match=r"onnxruntime and onnxscript are needed .*pip install clipreid_kit\[export\]",
    ):
        export_image_tower(build("vit"), tmp_path / "tower.onnx")


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tolerance": 0.0}, "tolerance > 0"),
        ({"tolerance": "1e-4"}, "tolerance as a number, got '1e-4'"),
        ({"batch_size": 0}, "batch_size as a whole number >= 1, got 0"),
        ({"seed": None}, "seed as a whole number >= 0, got None"),
    ],
)
def test_invalid_options(build, tmp_path, options, match):
    with pytest.raises(ValueError, match=f"export_image_tower: expected {match}"):
        export_image_tower(build("vit"), tmp_path / "tower.onnx", **options)


@pytest.mark.slow
@pytest.mark.unhooked
@pytest.mark.usefixtures("onnxruntime")
def test_towers_in_bfloat16_are_exported_in_float32(build, tmp_path):
    towers = build("vit", image_size=(64, 32)).to(torch.bfloat16)
    assert export_image_tower(towers, tmp_path / "tower.onnx") <= 1e-4
    assert towers.logit_scale.dtype is torch.bfloat16


def test_a_full_disk_is_not_blamed_on_torch(build, tmp_path, monkeypatch):
    def export(*_, **__):
        full = OSError(28, "No space left on device")
        raise RuntimeError("pages of text") from full

    monkeypatch.setattr(torch.onnx, "export", export)
    with pytest.raises(ValueError, match=r"cannot write to the folder .*: No space left"):
        export_image_tower(build("vit"), tmp_path / "tower.onnx")


def test_the_place_is_checked_first(build, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", None)
    with pytest.raises(ValueError, match=r"cannot write .*: it is a folder; name a file\.$"):
        export_image_tower(build("vit"), tmp_path)

import pytest
import torch
from torch.testing import assert_close

import clipreid_kit.clip.checkpoints.onnx_export as export_module
from clipreid_kit.clip import CameraEmbedding, export_image_tower

EXTRA = "the extra export"


@pytest.mark.slow
@pytest.mark.unhooked  # the exporter traces, and the hook is in the way of that
@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
def test_the_file_gives_the_same_numbers_for_any_batch(build, tmp_path, kind):
    onnxruntime = pytest.importorskip("onnxruntime", reason=EXTRA)
    pytest.importorskip("onnxscript", reason=EXTRA)
    size = (64, 32) if kind != "timm" else None
    towers = build(kind, image_size=size).train()
    if kind == "vit":
        towers.camera_embedding = CameraEmbedding(128, num_cameras=2)
    difference = export_image_tower(towers, tmp_path / "tower.onnx", normalize=kind != "resnet")
    assert 0 <= difference <= 1e-4
    assert towers.training
    assert [path.name for path in tmp_path.iterdir()] == ["tower.onnx"]
    session = onnxruntime.InferenceSession(
        str(tmp_path / "tower.onnx"), providers=["CPUExecutionProvider"]
    )
    for count in (1, 2, 7):
        images = torch.randn(count, 3, *towers.image_size)
        found = session.run(["embeddings"], {"images": images.numpy()})[0]
        with torch.no_grad():
            expected = towers.eval().encode_image(images, normalize=kind != "resnet")
        assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.unhooked
def test_what_differs_is_not_left_behind(build, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason=EXTRA)
    pytest.importorskip("onnxscript", reason=EXTRA)
    write = export_module._write

    def write_another(module, images, path):
        twin = build("vit", seed=9)
        write(export_module._ImageTower(twin, normalize=True), images, path)

    monkeypatch.setattr(export_module, "_write", write_another)
    with pytest.raises(ValueError, match=r"outputs that differ by at most 0.0001, got 0\.\d+"):
        export_image_tower(build("vit"), tmp_path / "tower.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named(build, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(
        ValueError,
        match=r"onnxruntime and onnxscript are needed .*pip install clipreid_kit\[export\]",
    ):
        export_image_tower(build("vit"), tmp_path / "tower.onnx")
    with pytest.raises(ValueError, match="tolerance > 0"):
        export_image_tower(build("vit"), tmp_path / "tower.onnx", tolerance=0.0)

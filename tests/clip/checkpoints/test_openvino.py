"""OpenVINO reads the exported files; it is no dependency: ``pip install openvino``, 180 MB."""

import pytest
import torch
from torch.testing import assert_close

import clipreid_kit.clip.checkpoints.tracker_export as export_module
from clipreid_kit.clip import export_for_tracker, export_image_tower

openvino = pytest.importorskip("openvino", reason="OpenVINO, which no extra brings")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export")
pytest.importorskip("onnxscript", reason="the extra export")

# The exporter traces, which the hook prevents.
pytestmark = [pytest.mark.slow, pytest.mark.unhooked]


def by_openvino(path, images):
    # Processors with units for bfloat16 or float16 would use these.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(str(path), "CPU", exact)
    return torch.from_numpy(model({"images": images.numpy()})["embeddings"].copy())


def by_onnxruntime(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["embeddings"], {"images": images.numpy()})[0])


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_file_for_programs(build, tmp_path, kind):
    towers = build(kind, image_size=(64, 32)).eval()
    export_image_tower(towers, tmp_path / "tower.onnx")

    for count in (1, 3):
        images = torch.randn(count, 3, 64, 32)
        with torch.no_grad():
            expected = towers.encode_image(images, normalize=True)
        found = by_openvino(tmp_path / "tower.onnx", images)
        assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_file_for_trackers_in_each_precision(build, tmp_path, kind, monkeypatch):
    """Resizing comes before normalisation: of a ResNet, OpenVINO once confused their axes."""
    towers = build(kind, image_size=(64, 32)).eval()
    crops = torch.randint(256, (12, 3, 64, 64)).to(torch.uint8)
    images = crops[:3].float() / 255

    # The other precisions begin with the same graph.
    written = []
    write = export_module.write_graph

    def write_once(owner, module, example, path):
        if not written:
            write(owner, module, example, path)
            written.append(path.read_bytes())
        path.write_bytes(written[0])

    monkeypatch.setattr(export_module, "write_graph", write_once)

    # Numbers of half precision and of 8 bits are rounded by each runtime in its own order.
    for precision, tolerance in (("float32", 1e-4), ("float16", 2e-3), ("int8", 5e-2)):
        path = tmp_path / f"{precision}.onnx"
        export_for_tracker(towers, path, precision=precision, input_size=(64, 64), images=crops)
        found, expected = by_openvino(path, images), by_onnxruntime(path, images)
        assert_close(found, expected, atol=tolerance, rtol=0)

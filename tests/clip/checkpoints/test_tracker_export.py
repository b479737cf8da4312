"""The file takes crops as trackers feed them, and returns what the towers return of them."""

import ast
import shutil
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import clipreid_kit.clip.checkpoints.tracker_export as export_module
from clipreid_kit.clip import export_for_tracker
from clipreid_kit.clip.checkpoints.tracker_export import _as_fed, _TrackerTower

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
IMAGENET = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def random_crops(count, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, height, width), generator=generator).to(torch.uint8)


def embeddings_of(towers, crops):
    """Embeddings of crops in bytes, by the library's own steps: resize, normalise, encode."""
    unit = crops.float() / 255
    if tuple(crops.shape[2:]) != towers.image_size:
        unit = F.interpolate(unit, towers.image_size, mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    with torch.no_grad():
        return towers.encode_image((unit - mean) / std, normalize=True)


@pytest.mark.parametrize("pixels", ["0..1", "0..255", "uint8", "-1..1", "imagenet"])
@pytest.mark.parametrize("size", [(64, 32), (64, 64), (100, 37)])
def test_the_module_takes_each_form_of_crops(build, pixels, size):
    towers = build("vit", image_size=(64, 32))
    crops = random_crops(2, *size)
    module = _TrackerTower(towers, pixels, size, MEAN, STD)
    with torch.no_grad():
        found = module(_as_fed(crops, pixels))
    assert_close(found, embeddings_of(towers, crops), atol=1e-5, rtol=1e-4)


def test_crops_as_they_are_fed():
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    assert _as_fed(white, "uint8") is white
    assert _as_fed(white, "0..1").flatten().tolist() == [1, 1, 1]
    assert _as_fed(white, "-1..1").flatten().tolist() == [1, 1, 1]
    assert _as_fed(white, "0..255").flatten().tolist() == pytest.approx([255] * 3)
    mean, std = IMAGENET
    assert_close(_as_fed(white, "imagenet").flatten(), (1 - mean) / std)


@pytest.fixture
def onnxruntime():
    pytest.importorskip("onnxscript", reason="the extra export")
    return pytest.importorskip("onnxruntime", reason="the extra export")


def feed_as_ultralytics(session, frame, boxes):
    """Restated from its ReID encoder for ONNX files: RGB / 255 at the size of the graph's input.

    It crops a frame in BGR, resizes by a bilinear filter, and reads the first output. Metadata is
    parsed into literals, of which older versions require five.
    """
    metadata = session.get_modelmeta().custom_metadata_map
    for key in ("stride", "batch"):
        assert int(metadata[key]) > 0
    for key in ("imgsz", "names", "args"):
        assert ast.literal_eval(metadata[key])
    assert metadata["task"]

    entry = session.get_inputs()[0]
    assert isinstance(entry.shape[0], str)  # any number of crops
    height, width = entry.shape[2:]
    batch = np.empty((len(boxes), 3, height, width), dtype=np.float32)
    for row, (left, top, right, bottom) in enumerate(boxes):
        crop = np.ascontiguousarray(frame[top:bottom, left:right, ::-1])
        crop = torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255
        batch[row] = F.interpolate(crop, (height, width), mode="bilinear", align_corners=False)[0]

    outputs = session.run([session.get_outputs()[0].name], {entry.name: batch})
    return batch, outputs[0]


@pytest.mark.slow
@pytest.mark.unhooked  # the exporter traces, which the hook prevents
def test_a_tracker_runs_the_file_in_every_precision(build, tmp_path, onnxruntime, monkeypatch):
    towers = build("vit", image_size=(64, 32)).train()
    path = tmp_path / "tracker.onnx"
    options = {"input_size": (64, 64), "mean": MEAN, "std": STD}

    export = export_for_tracker(towers, path, **options)
    assert 0 <= export.difference <= 1e-4
    assert export.lowest_cosine == pytest.approx(1, abs=1e-5)
    assert export.mean_ap is None
    assert towers.training
    assert list(tmp_path.iterdir()) == [path]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["clipreid_kit.input"] == "RGB (N, 3, 64, 64), 0..1"
    assert metadata["clipreid_kit.output"] == "embeddings (N, 32) of length 1"

    frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    boxes = [(10, 20, 40, 90), (50, 5, 130, 60), (0, 0, 20, 20)]
    for count in (1, 3):
        batch, found = feed_as_ultralytics(session, frame, boxes[:count])
        with torch.no_grad():
            module = _TrackerTower(towers.eval(), "0..1", (64, 64), MEAN, STD)
            expected = module(torch.from_numpy(batch))
        assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)

    # the other precisions begin with the same graph
    whole = tmp_path / "whole.onnx"
    shutil.copy(path, whole)
    monkeypatch.setattr(export_module, "write_graph", lambda *given: shutil.copy(whole, given[-1]))
    crops = random_crops(12, 64, 64)
    labels = torch.arange(12) // 3
    small = {"images": crops, "labels": labels, **options}

    half = export_for_tracker(towers, path, precision="float16", **small)
    assert 0 < half.difference < 1e-2
    assert path.stat().st_size < 0.6 * whole.stat().st_size
    assert half.mean_ap == pytest.approx(half.mean_ap_of_towers, abs=0.05)

    reported = []
    quantised = export_for_tracker(
        towers,
        path,
        precision="int8",
        progress=lambda *counts: reported.append(counts),
        **small,
    )
    # the towers, the ranges and the file with two batches each, and the graph
    assert reported == [(done, 7) for done in range(8)]
    assert half.difference < quantised.difference < 0.2
    assert quantised.lowest_cosine > 0.9
    assert path.stat().st_size < 0.45 * whole.stat().st_size
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert float(metadata["clipreid_kit.mean_ap"]) == pytest.approx(quantised.mean_ap, abs=1e-6)
    _, found = feed_as_ultralytics(session, frame, boxes)
    assert found.shape == (3, 32)

    kept = path.read_bytes()
    with pytest.raises(ValueError, match=r"outputs that differ by at most 1e-09, got 0\.\d+"):
        export_for_tracker(towers, path, precision="int8", tolerance=1e-9, **small)
    assert path.read_bytes() == kept


@pytest.mark.slow
@pytest.mark.unhooked
def test_towers_in_float64_for_a_tracker_that_normalises(build, tmp_path, onnxruntime):
    """BoxMOT feeds RGB at the graph's size, normalised with ImageNet's mean and deviation."""
    towers = build("resnet", image_size=(64, 32)).double()
    path = tmp_path / "tracker.onnx"
    options = {"mean": MEAN, "std": STD, "pixels": "imagenet"}
    assert export_for_tracker(towers, path, **options).difference <= 1e-4
    assert next(towers.parameters()).dtype == torch.float64

    crops = random_crops(2, 64, 32, seed=1)
    mean, std = (values[:, None, None] for values in IMAGENET)
    fed = ((crops.float() / 255 - mean) / std).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run([session.get_outputs()[0].name], {session.get_inputs()[0].name: fed})[0]
    expected = embeddings_of(towers.float(), crops)
    assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-3)


def test_a_missing_extra_is_named(build, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"export_for_tracker: onnxruntime and onnxscript are nee"):
        export_for_tracker(build("vit"), tmp_path / "tracker.onnx")


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"pixels": "bgr"}, r"expected pixels to be one of 0\.\.1, .*, imagenet, got 'bgr'"),
        ({"precision": "int4"}, "expected precision to be one of float32, float16, int8, got"),
        ({"tolerance": 0.0}, "expected tolerance > 0"),
        ({"seed": -1}, "expected seed as a whole number >= 0, got -1"),
        ({"input_size": 64}, r"expected input_size as \(height, width\), got 64"),
        ({"input_size": (64, 0)}, "expected input_size as a whole number >= 1, got 0"),
        ({"mean": (0.5,)}, r"expected mean of red, green and blue, got \(0\.5,\)"),
        ({"std": (0.5, 0.5, 0.0)}, "expected std > 0"),
        ({"precision": "int8"}, "int8 needs images, from which it takes the ranges"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "labels belong to images. Pass both"),
        ({"images": torch.zeros(2, 3, 64, 64)}, r"expected images as uint8 \(N, 3, 64, 64\), N >="),
        (
            {"images": random_crops(2, 64, 32)},
            r"expected images as .*, got shape \(2, 3, 64, 32\).* Resize the crops",
        ),
    ],
)
def test_invalid_options(build, tmp_path, options, match):
    with pytest.raises(ValueError, match=f"export_for_tracker: {match}"):
        export_for_tracker(build("vit"), tmp_path / "tracker.onnx", **options)

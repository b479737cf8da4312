import pytest
import torch
from PIL import Image

import clipreid_kit.clip
from clipreid_kit.clip import ClipTowers, TrackerExport, TrainingCheckpoints, save_towers
from clipreid_kit.data import ImageSpec


@pytest.fixture
def exported(monkeypatch):
    """Arguments of the exports; nothing is written."""
    made = []

    def for_program(towers, file, progress, **options):
        made.append(options)
        return 2e-7

    def for_tracker(towers, file, progress, **options):
        made.append(options)
        rates = (None, None) if options["labels"] is None else (0.5, 0.625)
        return TrackerExport(3e-5, 1.0, *rates)

    monkeypatch.setattr(clipreid_kit.clip, "export_image_tower", for_program)
    monkeypatch.setattr(clipreid_kit.clip, "export_for_tracker", for_tracker)
    return made


@pytest.fixture
def run(tmp_path):
    """A run of towers that were trained with other statistics than those of their weights."""
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32))
    spec = ImageSpec(image_size=(64, 32), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    card = {"image_spec": spec.as_dict()}
    checkpoints = TrainingCheckpoints(tmp_path / "run" / "checkpoints")
    checkpoints.save(1, towers, {}, best=True, card=card)
    return tmp_path / "run"


def test_for_a_program(clipreid, run, exported):
    assert clipreid("export", run, "tower.onnx") == (
        0,
        "tower.onnx: 64 x 32, 128 dimensions, within 2.0e-07\n",
        "",
    )
    assert exported == [{"normalize": True, "tolerance": 1e-4}]


def test_for_a_tracker_with_the_statistics_of_the_run(clipreid, run, exported, tmp_path):
    for identity in ("rex", "tom"):
        for number in range(2):
            path = tmp_path / "crops" / identity / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 12), (255, 0, 0)).save(path)

    size = ["--input-size", "48x48", "--pixels", "uint8", "--precision", "int8"]
    command = ["export", run, "person.onnx", "--for", "tracker", *size]
    status, printed, error = clipreid(*command, "--images", tmp_path / "crops")

    assert (status, error) == (0, "")
    assert printed == (
        "person.onnx: crops of 48 x 48 in uint8, 128 dimensions, int8, within 3.0e-05\n"
        "mAP 50.00, of the towers 62.50\n"
    )
    (options,) = exported
    assert options.pop("labels").tolist() == [0, 0, 1, 1]
    images = options.pop("images")
    assert images.dtype == torch.uint8
    assert images.shape == (4, 3, 48, 48)
    assert options == {
        "pixels": "uint8",
        "input_size": (48, 48),
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "precision": "int8",
        "tolerance": None,
    }


def test_saved_towers_for_a_tracker(clipreid, tmp_path, exported):
    save_towers(ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32)), tmp_path / "t")
    status, printed, error = clipreid("export", tmp_path / "t", "p.onnx", "--for", "tracker")
    assert (status, error) == (0, "")
    assert printed == "p.onnx: crops of 64 x 32 in 0..1, 128 dimensions, float32, within 3.0e-05\n"
    assert exported[0]["mean"] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pixels", "uint8"], "--pixels, --input-size, --precision and --images belong to --for"),
        (["--for", "tracker", "--input-size", "256"], "write HEIGHTxWIDTH, such as 256x128"),
        (["--for", "tracker", "--no-normalize"], "--for tracker always scales embeddings to leng"),
        (["--for", "traker"], "'traker' is not one of"),
    ],
)
def test_options_that_do_not_fit(clipreid, run, exported, options, words):
    status, printed, error = clipreid("export", run, "tower.onnx", *options)
    assert (status, printed) == (2, "")
    assert words in error
    assert exported == []

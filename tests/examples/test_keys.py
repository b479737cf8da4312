"""Every key of a recipe changes the run: none is decoration."""

import dataclasses
import json
import typing

import pytest
from safetensors.torch import load_file
from tiny import tiny_recipe

from clipreid_kit.clip import ClipTowers
from examples.settings.config import Recipe
from examples.trainer.__main__ import run
from examples.trainer.data import load_records, training_batches, training_set

# another value for every key whose effect is a different result
CHANGES = {
    "stage": "zero_shot",
    "seed": "1",
    "precision": "bf16",
    "data.num_identities": "24",
    "data.views_per_camera": "3",
    "data.orientations": "4",
    "model.name": "reid-tiny-vit",
    "model.image_size": "[64, 32]",
    "model.image_mean": "[1, 1, 1]",
    "model.image_std": "[0.5, 0.5, 0.5]",
    "model.channels_last": "true",
    "augment.horizontal_flip": "0.0",
    "augment.pad": "4",
    "augment.color_jitter": "0.0",
    "augment.rotation": "20",
    "augment.translate": "0.2",
    "augment.scale": "[0.7, 1.3]",
    "augment.shear": "10",
    "augment.perspective": "0.5",
    "augment.erasing": "1.0",
    "augment.identity_warp": "0.5",
    "augment.identity_orientations": "4",
    "batch.num_identities": "6",
    "batch.num_instances": "3",
    "batch.coverage": "images",
    "batch.spread_cameras": "false",
    "loss.supcon_image": "0.5",
    "loss.supcon_text": "0.0",
    "loss.triplet": "1.0",
    "loss.temperature": "0.5",
    "optim.epochs": "3",
    "optim.lr": "2e-3",
    "optim.text_lr": "2e-3",
    "optim.weight_decay": "0.5",
    "optim.warmup_epochs": "0",
    "optim.min_lr": "5e-4",
    "optim.clip_norm": "0.01",
    "optim.ema_decay": "0.5",
    "evaluate.cameras": "false",
    "evaluate.every": "2",
    "evaluate.rotations": "[0, 10]",
}
# keys that change nothing unless another one does: the pair that shows the effect
PAIRED = {
    "augment.fill": ("augment.pad=4", "augment.fill=255"),
    "loss.margin": ("loss.triplet=1.0", "loss.margin=1.0"),
}
# keys whose effect is tested by a test of their own below, or in test_trainer.py
ELSEWHERE = {
    "note",
    "data.source",
    "data.root",
    "data.camera_pattern",
    "data.held_out",
    "data.cache",
    "data.workers",
    "model.pretrained",
    "loss.info_nce",
    "evaluate.metric",
    "evaluate.patience",
    "evaluate.batch_size",
}


def keys(kind, prefix=""):
    for name, hint in typing.get_type_hints(kind).items():
        yield from keys(hint, f"{prefix}{name}.") if dataclasses.is_dataclass(hint) else [prefix + name]


def outcome(folder, *changes):
    """Everything about a run that is not a time: weights of the last epoch, metrics and results."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "run"
    run(tiny_recipe(folder, *changes), out)
    weights, history = {}, []
    if (out / "metrics.jsonl").exists():
        index = json.loads((out / "checkpoints" / "index.json").read_text())
        weights = load_file(out / "checkpoints" / index["last"] / "model.safetensors")
        history = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for row in history:
        del row["images_per_second"], row["seconds"]
    numbers = json.loads((out / "results.json").read_text())
    return {name: tensor.double().sum().item() for name, tensor in weights.items()}, history, numbers


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    return outcome(tmp_path_factory.mktemp("baseline"))


def test_every_key_is_covered():
    assert set(keys(Recipe)) == set(CHANGES) | set(PAIRED) | ELSEWHERE


def test_a_run_repeats_itself(tmp_path, baseline):
    assert outcome(tmp_path) == baseline


@pytest.mark.parametrize("key", CHANGES)
def test_key_changes_the_run(tmp_path, baseline, key):
    changed = outcome(tmp_path, f"{key}={CHANGES[key]}")
    assert changed[0] != baseline[0] or changed[2] != baseline[2] or changed[1] != baseline[1]


@pytest.mark.parametrize("key", PAIRED)
def test_key_changes_the_run_with_its_partner(tmp_path, key):
    partner, change = PAIRED[key]
    assert outcome(tmp_path / "a", partner) != outcome(tmp_path / "b", partner, change)


def test_info_nce_trains(tmp_path, baseline):
    changes = ["loss.supcon_image=0", "loss.supcon_text=0", "loss.info_nce=1.0", "batch.num_instances=1"]
    _, history, _ = outcome(tmp_path, *changes)
    assert set(history[0]) >= {"info_nce", "loss"}
    assert history[0]["info_nce"] == history[0]["loss"]


def test_workers_and_cache_change_how_and_not_what(tmp_path, baseline):
    assert outcome(tmp_path / "a", "data.workers=2") == baseline
    assert outcome(tmp_path / "b", "data.cache=false", "evaluate.batch_size=7")[1] == baseline[1]
    recipe = tiny_recipe(tmp_path, "data.workers=2", "data.cache=false")
    towers = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(32, 32))
    dataset = training_set(recipe, load_records(recipe, tmp_path), towers)
    assert training_batches(recipe, dataset)[1].num_workers == 2
    for record in dataset.records:  # nothing is kept in memory: without the files there is no image
        (tmp_path / "data" / record.path).unlink(missing_ok=True)
    with pytest.raises(ValueError, match="load_image"):
        dataset[0]

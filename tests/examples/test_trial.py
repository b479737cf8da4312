"""A trial keeps a few identities and images of any data set, and every query its match."""

import json
from collections import Counter

from tiny import tiny_images, tiny_recipe, write_recipe

from clipreid_kit.data import ImageRecord
from examples.settings.recipe import load_recipe
from examples.settings.smoke import smoke
from examples.trainer.records import load_records
from examples.trainer.run import run
from examples.trainer.trial import keep_few


def records(split, identities, *, cameras=(1, 2), images=10):
    return [
        ImageRecord(f"{split}_{i}_{camera}_{n}.png", i, camera=camera, split=split)
        for i in identities
        for n in range(images)
        for camera in cameras
    ]


def counts(found):
    return Counter((record.split, record.identity) for record in found)


def test_few_identities_and_images_of_a_split():
    found = keep_few(records("train", range(9)), 4)
    assert counts(found) == {("train", i): 8 for i in range(4)}
    assert Counter(record.camera for record in found) == {1: 16, 2: 16}


def test_every_camera_keeps_an_image():
    found = keep_few(records("train", range(4), cameras=range(12), images=3), 4)
    assert counts(found) == {("train", i): 12 for i in range(4)}


def test_a_gallery_keeps_the_identities_of_its_queries():
    made = [
        *records("query", (7, 8, 9, 5, 6)),
        *records("gallery", range(10)),
        *records("query0", (3, 2, 1, 0)),
        *records("gallery0_all", range(10)),
    ]
    identities = {}
    for split, identity in counts(keep_few(made, 4)):
        identities.setdefault(split, set()).add(identity)
    assert identities["query"] == identities["gallery"] == {7, 8, 9, 5}
    assert identities["query0"] == identities["gallery0_all"] == {0, 1, 2, 3}


def test_identities_with_one_image_come_last():
    made = [*records("train", range(3), cameras=(1,), images=1), *records("train", range(3, 9))]
    assert {record.identity for record in keep_few(made, 4)} == {3, 4, 5, 6}
    assert {record.identity for record in keep_few(made, 7)} == {0, *range(3, 9)}


def test_a_trial_of_a_data_set(tmp_path):
    images = tiny_images(tmp_path / "images")
    recipe = tiny_recipe(tmp_path, "data.trial_identities=4", images=images)
    found = counts(load_records(recipe, tmp_path)[0])

    splits = Counter(split for split, _ in found)
    assert splits["train"] == 4
    assert splits["query"] == splits["gallery"] <= 4
    assert len(counts(load_records(tiny_recipe(tmp_path, images=images), tmp_path)[0])) > len(found)


def test_smoke_is_a_trial_without_alarms(tmp_path):
    path = write_recipe(tmp_path)
    small = smoke(load_recipe(path, ["data.source=folder"], data="photos"))
    assert small.data.trial_identities == 24
    assert small.track.alarms is False

    generated = smoke(load_recipe(path))
    assert generated.data.trial_identities is None
    assert generated.data.num_identities == 24


def test_both_phases_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("examples.trainer.run.write_run_report", lambda *_, **__: None)
    images = tiny_images(tmp_path / "images")
    changes = ["optim.epochs=1", "optim.warmup_epochs=0", "prompt.epochs=1"]
    recipe = tiny_recipe(
        tmp_path, *changes, "prompt.warmup_epochs=0", stage="clip_reid", images=images
    )
    run(recipe, tmp_path / "run")

    lines = capsys.readouterr().out.splitlines()
    names = [line.partition(":")[0] for line in lines if ": epoch   1  loss" in line]
    assert names == ["prompts", "images"]
    log = (tmp_path / "run" / "train.log").read_text()
    assert "  prompts: epoch   1  loss" in log
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["epoch"] == 1

"""Train, resume, evaluate, report and export by the command, on a recipe of a second."""

import json
import shutil

import numpy as np
import pytest
from tiny import tiny_images, write_recipe

from clipreid_kit.cli.main import main

ONE = ("--set", "optim.epochs=1")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return tiny_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(autouse=True)
def _without_report(monkeypatch):
    monkeypatch.setattr("examples.trainer.run.write_run_report", lambda *_, **__: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, images):
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("examples.trainer.run.write_run_report", lambda *_, **__: None)
        recipe = write_recipe(folder)
        assert main(["train", str(recipe), "--out", str(folder / "run"), *of(images), *ONE]) == 0
    return folder / "run"


def of(images):
    """Options that train on some images."""
    return [
        "--data",
        f"{images}/records.csv",
        "--set",
        "data.source=table",
        "--set",
        "optim.warmup_epochs=0",
    ]


def results(run):
    return json.loads((run / "results.json").read_text())


def test_a_run(finished):
    assert set(results(finished)) == {"before", "after"}
    assert (finished / "train.log").is_file()


def test_a_run_goes_on_after_its_last_epoch(clipreid, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "results.json").unlink()

    status, text, error = clipreid("train", "--resume", run)
    assert (status, error) == (0, "")
    assert "image to image, after" in text
    assert results(run) == results(finished)


def test_resume_needs_nothing_else(clipreid, finished, tmp_path):
    status, _, error = clipreid("train", "own/train", "--resume", finished)
    assert status == 2
    assert error == "error: --resume RUN needs nothing else: the run has its recipe.\n"

    status, _, error = clipreid("train", "--resume", tmp_path)
    assert status == 1
    assert "this is neither a run" in error


def test_a_run_is_not_overwritten(clipreid, finished, images, tmp_path):
    recipe = write_recipe(tmp_path)
    status, _, error = clipreid("train", recipe, "--out", finished, *of(images))
    assert status == 1
    assert "already holds a run. Continue it with --resume" in error


def test_the_trainers_errors_are_status_1(clipreid, tmp_path):
    status, _, error = clipreid("train", "own/train", "--out", tmp_path / "run")
    assert status == 1
    assert error == "error: data.root: `source: folder` needs images. Add --data PATH.\n"


def test_a_run_is_evaluated(clipreid, finished, tmp_path):
    status, _, _ = clipreid("evaluate", finished, "--features", "--out", tmp_path / "again")

    assert status == 0
    assert results(tmp_path / "again")["after"] == results(finished)["after"]

    status, again, _ = clipreid("evaluate", tmp_path / "again" / "features.npz", "--ranks", 1)
    assert status == 0
    assert again.startswith("market1501, cosine")


def test_options_of_features_and_of_runs_are_not_mixed(clipreid, finished, tmp_path):
    np.savez(tmp_path / "features.npz", embeddings=np.eye(2), ids=[1, 1])
    status, _, error = clipreid("evaluate", tmp_path / "features.npz", "--checkpoint", "last")
    assert status == 2
    assert "it is read as a file of features. Leave out the options of a run" in error

    status, _, error = clipreid("evaluate", finished, "--protocol", "inshop")
    assert status == 2
    assert "--protocol is an option for a file of features" in error


def test_runs_are_gathered(clipreid, finished, tmp_path, monkeypatch):
    def gather(runs, out, published):
        return f"{runs[0]} {out} {published}\n"

    monkeypatch.setattr("clipreid_kit.reports.gather_runs", gather)
    assert clipreid("report", finished, "--out", tmp_path) == (
        0,
        f"{finished} {tmp_path} None\n",
        "",
    )


def test_a_run_is_exported(clipreid, finished, tmp_path, monkeypatch):
    asked = []

    def export(towers, file, **options):
        asked.append((towers.image_size, file, options))
        return 1e-6

    monkeypatch.setattr("clipreid_kit.clip.export_image_tower", export)
    file = tmp_path / "tower.onnx"
    status, text, _ = clipreid("export", finished, file, "--no-normalize")

    assert status == 0
    options = {"normalize": False, "tolerance": 1e-4, "progress": None}  # of no terminal
    assert asked == [((32, 32), file, options)]
    assert text == f"{file}: 32 x 32, 128 dimensions, within 1.0e-06\n"

"""The comparison of stages: which commands it runs, and that it continues where it stopped."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from examples import compare

FOLDER = Path("examples/recipes/quickstart")


@pytest.fixture
def commands(monkeypatch):
    """Commands that would be run; each succeeds."""
    made = []

    def run(command, **_):
        made.append(command[3:])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return made


def main(out, *arguments):
    return compare.main([str(FOLDER), "--out", str(out), *arguments])


def test_each_seed_pretrains_and_starts_its_stages_from_that(tmp_path, commands, capsys):
    assert main(tmp_path, "--seeds", "3", "--stages", "joint_v1", "--data", "images.zip") == 0
    pretrained = tmp_path / "pretrain-3"
    data = ["--data", "images.zip"]
    assert commands == [
        [str(FOLDER / "pretrain.yaml"), "--out", str(pretrained), "--set", "seed=1003", *data],
        [
            *[str(FOLDER / "joint_v1.yaml"), "--out", str(tmp_path / "joint_v1-3")],
            *["--set", "seed=3", "--set", f"init_from={pretrained}", *data],
        ],
    ]
    assert capsys.readouterr().out == "pretrain, seed 3\njoint_v1, seed 3\n"


def test_finished_runs_are_skipped_and_started_ones_resumed(tmp_path, commands):
    for run, file in (("pretrain-0", "results.json"), ("classifier-0", "recipe.json")):
        (tmp_path / run).mkdir()
        (tmp_path / run / file).touch()

    assert main(tmp_path, "--seeds", "0", "--stages", "classifier", "zero_shot") == 0
    assert [Path(command[0]).stem for command in commands] == ["classifier", "zero_shot"]
    assert ["--resume" in command for command in commands] == [True, False]


def test_the_first_failure_ends_the_comparison(tmp_path, monkeypatch):
    failed = []

    def fail(command, **_):
        failed.append(command)
        return SimpleNamespace(returncode=2)

    monkeypatch.setattr(subprocess, "run", fail)
    assert main(tmp_path) == 1
    assert len(failed) == 1


def test_every_stage_has_a_recipe_in_both_folders():
    root = Path(__file__).parents[2] / "examples" / "recipes"
    for folder in ("quickstart", "omniglot"):
        for stage in ("pretrain", *compare.STAGES):
            assert (root / folder / f"{stage}.yaml").is_file()

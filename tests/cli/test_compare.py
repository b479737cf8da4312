"""The comparison runs the command for each recipe, and gathers the runs."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from clipreid_kit.cli.compare import train_command

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"


def test_the_command_of_a_run(tmp_path):
    program = [sys.executable, "-m", "clipreid_kit", "train"]
    run = tmp_path / "run"
    assert train_command(Path("a.yaml"), run, ["seed=1"], "photos") == [
        *program,
        *["a.yaml", "--out", str(run), "--set", "seed=1", "--data", "photos"],
    ]

    run.mkdir()
    (run / "recipe.json").touch()
    assert train_command(Path("a.yaml"), run, ["seed=1"], None) == [*program, "--resume", str(run)]


def test_a_folder_by_name(clipreid, monkeypatch, tmp_path):
    made = []

    def run(command, **_):
        made.append(command[4:6])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("clipreid_kit.reports.gather_runs", lambda runs, out: f"{runs} {out}\n")
    status, text, _ = clipreid(
        *["compare", "quickstart", "--out", tmp_path, "--seed", 3, "--stage", "joint_v1"]
    )

    assert status == 0
    folder = RECIPES / "quickstart"
    assert made == [[str(folder / f"{name}.yaml"), "--out"] for name in ("pretrain", "joint_v1")]
    assert text.splitlines()[-1] == f"[{tmp_path!r}] {tmp_path / 'report'}"


def test_runs_beside_published_figures(clipreid, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "clipreid_kit.reports.gather_runs",
        lambda runs, out, published: f"{runs} {out} {published.parent.name}/{published.name}\n",
    )
    status, text, _ = clipreid(
        "compare", tmp_path / "a", tmp_path / "b", "--published", "papers", "--out", tmp_path
    )
    assert (status, text) == (
        0,
        f"{[tmp_path / 'a', tmp_path / 'b']!r} {tmp_path} papers/published.csv\n",
    )


def test_one_folder_of_recipes(clipreid, tmp_path):
    error = clipreid("compare", "quickstart", "own", "--out", tmp_path)[2]
    assert "pass one folder of recipes, or --published and folders of runs" in error


def test_the_first_failure_is_the_status(clipreid, monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=2))
    assert clipreid("compare", "quickstart", "--out", tmp_path)[0] == 1


def test_a_folder_without_weights_to_start_from(clipreid, tmp_path):
    error = clipreid("compare", "own", "--out", tmp_path)[2]
    assert error == "error: compare: there is no pretrain.yaml in own; quickstart has one.\n"

"""The comparison runs the command for each recipe, and gathers the runs."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from clipreid_kit import ReidResult
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


@pytest.fixture
def results(tmp_path):
    """Two result files of the same queries, the second better."""
    ones = np.ones(20, dtype=np.int64)
    for name, precision in (("old", 0.5), ("new", 0.75)):
        rates = np.full(20, precision)
        result = ReidResult(rates, rates, ones, ones, 30, 20, np.arange(20))
        (tmp_path / f"{name}.json").write_text(result.to_json(per_query=True))
    return [tmp_path / "old.json", tmp_path / "new.json"]


def test_a_paired_test(clipreid, results, tmp_path):
    status, text, _ = clipreid("compare", *results, "--test", "--measure", "mean_ap")
    assert status == 0
    assert "| b | new | 75.00 <sup>a</sup> |" in text

    options = ["--measure", "mean_ap", "--baseline", "old", "--level", "0.01"]
    assert clipreid("compare", *results, "--test", *options, "--format", "latex")[1].count("&") > 5

    for name, words in (("t.md", "| new |"), ("t.tex", r"\toprule"), ("t.html", "<td")):
        assert clipreid("compare", *results, "--test", "--out", tmp_path / name)[:2] == (0, "")
        assert words in (tmp_path / name).read_text()


def test_a_leaderboard(clipreid, results, tmp_path):
    assert clipreid("compare", *results, "--html", tmp_path / "b.html")[:2] == (0, "")
    assert (tmp_path / "b.html").read_text().count('<th scope="row"') == 2

    both = ["--html", tmp_path / "c.html", "--test"]
    assert "Holm" in clipreid("compare", *results, *both)[1]
    assert (tmp_path / "c.html").is_file()


def test_wrong_options_of_a_test(clipreid, results, tmp_path):
    error = clipreid("compare", *results, "--test", "--out", tmp_path / "t.pdf")[2]
    assert "name a .md, .tex or .html file" in error
    error = clipreid("compare", *results, "--test", "--format", "pdf")[2]
    assert "choose markdown, latex or html" in error
    error = clipreid("compare", *results, "--test", "--level", 0)[2]
    assert error == "error: compare_results: expected level above 0 and below 1, got 0.0.\n"
    assert "--out is missing" in clipreid("compare", "quickstart")[2]

    error = clipreid("compare", *results, "--test", "--seed", 3, "--data", "photos")[2]
    assert "--data and --seed have no effect on runs that exist" in error
    error = clipreid("compare", "quickstart", "--out", tmp_path, "--level", 0.1)[2]
    assert "--level need --test" in error

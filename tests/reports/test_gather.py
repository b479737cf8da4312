"""The command that gathers runs into tables and figures."""

import csv
import runpy
import sys

import pytest
from PIL import Image
from run_folders import both, write_run

from clipreid_kit.reports import gather_runs
from examples.trainer.report import main


def test_the_command_writes_tables_and_figures_and_prints_tables(gathered):
    printed = (gathered.parent / "printed.txt").read_text()
    assert "| killed   | joint     | 0    | unfinished, 1 epoch done | 1          |" in printed
    assert "75.00 ± 5.00" in printed
    assert printed.endswith(f"5 of 6 runs complete. 8 tables and 16 figures: {gathered}\n")

    tables = {
        f"{name}.{kind}"
        for name in ("evaluation", "training", "versions")
        for kind in ("csv", "md")
    }
    tasks = (
        "image_to_image",
        "image_to_image_splits",
        "image_to_image_distractors",
        "text_to_image",
    )
    bars = {f"{task}_{measure}.png" for task in tasks for measure in ("rank_1", "map")}
    curves = {"rank_1_by_epoch.png", "map_by_epoch.png"}
    runs = ("clip", "clip_prompt", "killed", "v2__seed0", "v2__seed1", "v2__seed2")
    training = {f"training/{run}.png" for run in runs}
    written = {str(path.relative_to(gathered)) for path in gathered.rglob("*.*")}
    assert (
        written
        == tables | {"changes.csv", "remarks.csv", ".written.json"} | bars | curves | training
    )


def test_remarks_are_a_table_of_their_own(gathered):
    """One row for each version, under the name that it has in the table of versions."""
    with (gathered / "remarks.csv").open(encoding="utf-8") as file:
        remarks = list(csv.DictReader(file))
    with (gathered / "versions.csv").open(encoding="utf-8") as file:
        versions = {row["version"] for row in csv.DictReader(file)}

    assert list(remarks[0]) == ["version", "stage", "remarks"]
    assert versions < {row["version"] for row in remarks}  # one run has no results yet
    by_version = {row["version"]: row for row in remarks}
    assert by_version["v2"]["stage"] == "joint"
    assert by_version["v2"]["remarks"]


def test_every_figure_shows_something(gathered):
    figures = list(gathered.rglob("*.png"))
    assert figures
    for path in figures:
        pixels = Image.open(path).convert("L")
        assert min(pixels.size) > 200
        assert len(pixels.getcolors()) > 20


def test_evaluation_and_versions_are_one_kind_of_table(gathered):
    evaluation = (gathered / "evaluation.md").read_text()
    assert "## Image to image, splits (%; mean ± standard deviation over splits)" in evaluation
    assert "| v2/seed1 | before          | 25.00 ± 7.07 |" in evaluation
    assert "| v2/seed1 | after, split 2  | 85.00        |" in evaluation
    assert "## Text to image (%)" in evaluation

    versions = (gathered / "versions.md").read_text()
    assert "| version | moment    | runs | R1           |" in versions
    assert "| v2      | before    | 3    | 25.00 ± 0.00 |" in versions


def test_runs_without_an_epoch_or_validation_are_listed(tmp_path, capsys):
    write_run(tmp_path / "started")
    write_run(tmp_path / "unvalidated", rates=[None, None], results=both(0.1, 0.5))
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert "unfinished, 0 epochs done" in capsys.readouterr().out
    assert not (tmp_path / "out" / "rank_1_by_epoch.png").exists()
    assert (tmp_path / "out" / "training" / "unvalidated.png").exists()


def test_killed_runs_alone_still_make_tables(tmp_path):
    write_run(tmp_path / "killed", rates=[0.5])
    assert "0 of 1 runs complete" in gather_runs([tmp_path], tmp_path / "out")


def test_an_expected_error_is_one_line(folder, tmp_path, capsys):
    for run in ("zero", "clip"):
        (folder / run / "results.json").write_text("{")
    assert main([str(folder), "--out", str(tmp_path / "out")]) == 2

    printed = capsys.readouterr().err
    assert printed.startswith("error: 2 files are damaged: ")
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_command_is_that_of_the_trainer(folder, tmp_path, monkeypatch, capsys):
    name = "examples.trainer.report"
    monkeypatch.setattr(sys, "argv", [name, str(folder / "killed"), "--out", str(tmp_path / "out")])
    monkeypatch.delitem(sys.modules, name)

    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_module(name, run_name="__main__")
    assert "unfinished, 1 epoch done" in capsys.readouterr().out


def test_a_file_of_someone_else_is_not_replaced(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "evaluation.csv").write_text("my table")

    with pytest.raises(ValueError, match=r"evaluation\.csv\. Move them away, or change --out"):
        gather_runs([folder / "killed"], out)
    assert [path.name for path in out.iterdir()] == ["evaluation.csv"]
    assert (out / "evaluation.csv").read_text() == "my table"

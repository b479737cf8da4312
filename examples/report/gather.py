"""Gather runs of the trainer into tables and pictures, from their JSON files alone."""

import argparse
import sys
from pathlib import Path

from examples.report.figures import write_figures
from examples.report.markdown import (
    evaluation_markdown,
    group_markdown,
    runs_markdown,
    training_markdown,
)
from examples.report.runs import find_runs
from examples.report.tables import csv_text, evaluation_rows, group_rows, training_rows


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, write everything, print the tables; an expected error becomes one line."""
    parser = argparse.ArgumentParser(prog="python -m examples.trainer.report", description=__doc__)
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        help="folders of runs, or folders that hold some, at any depth",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("report"), help="where to write to (default: report)"
    )
    options = parser.parse_args(arguments)
    try:
        print(gather(options.runs, options.out), end="")
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def gather(folders: list[Path], out: Path) -> str:
    """Write tables and pictures of all runs in the folders; returns what there is to say, as Markdown.

    Raises:
        ValueError: If there is no run, or a file is damaged; nothing was written then.
    """
    runs = find_runs(folders)
    evaluation, training, versions = evaluation_rows(runs), training_rows(runs), group_rows(runs)
    text = {"evaluation": evaluation_markdown(runs), "versions": group_markdown(versions)}
    out.mkdir(parents=True, exist_ok=True)
    files = {
        "evaluation.csv": csv_text(evaluation),
        "evaluation.md": text["evaluation"],
        "training.csv": csv_text(training),
        "training.md": training_markdown(training),
        "versions.csv": csv_text(versions),
        "versions.md": text["versions"],
    }
    for name, content in files.items():
        (out / name).write_text(content, encoding="utf-8")
    pictures = write_figures(out, runs, versions)
    ended = sum(run.results is not None for run in runs)
    end = f"{ended} of {len(runs)} runs complete. {len(files)} tables and {len(pictures)} pictures: {out}\n"
    return f"{runs_markdown(runs)}\n{text['versions']}\n{end}"

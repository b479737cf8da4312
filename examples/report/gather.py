"""Gather runs of the trainer into tables and figures, from their JSON files alone."""

import argparse
import sys
from pathlib import Path

from examples.report.figures import write_figures
from examples.report.runs import find_runs
from examples.report.tables import (
    csv_text,
    evaluation_rows,
    rates_markdown,
    runs_markdown,
    split_rows,
    training_markdown,
    training_rows,
    version_rows,
)


def main(arguments: list[str] | None = None) -> int:
    """Write tables and figures, and print the tables; an expected error becomes one line."""
    parser = argparse.ArgumentParser(prog="python -m examples.trainer.report", description=__doc__)
    parser.add_argument(
        "runs", type=Path, nargs="+", help="folders of runs, or folders that hold runs at any depth"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("report"), help="folder to write to (default: report)"
    )
    options = parser.parse_args(arguments)

    try:
        print(gather(options.runs, options.out), end="")
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def gather(folders: list[Path], out: Path) -> str:
    """Write tables and figures of all runs in the folders, and return a summary in Markdown.

    Raises:
        ValueError: If there is no run, or a file is damaged; nothing is written then.
    """
    runs = find_runs(folders)
    training, versions = training_rows(runs), version_rows(runs)

    splits_text = rates_markdown(split_rows(runs), ["version", "moment"], "splits")
    version_columns = ["version", "moment", "num_runs"]
    versions_text = rates_markdown(versions, version_columns, "runs with other seeds")

    files = {
        "evaluation.csv": csv_text(evaluation_rows(runs)),
        "evaluation.md": f"{runs_markdown(runs)}\n{splits_text}",
        "training.csv": csv_text(training),
        "training.md": training_markdown(training),
        "versions.csv": csv_text(versions),
        "versions.md": f"# Versions\n\n{versions_text}",
    }

    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (out / name).write_text(content, encoding="utf-8")
    figures = write_figures(out, runs, versions)

    complete = f"{sum(run.complete for run in runs)} of {len(runs)} runs complete."
    written = f"{len(files)} tables and {len(figures)} figures: {out}"
    return f"{runs_markdown(runs)}\n{files['versions.md']}\n{complete} {written}\n"

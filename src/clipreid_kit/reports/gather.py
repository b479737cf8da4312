"""Gather runs into tables and figures, from their JSON files alone."""

import tempfile
from pathlib import Path

from clipreid_kit._read_files import read_bytes
from clipreid_kit.reports.figures import write_figures
from clipreid_kit.reports.frozen_baseline import change_rows
from clipreid_kit.reports.own_files import write_own_files
from clipreid_kit.reports.published import published_markdown, published_rows, read_published
from clipreid_kit.reports.runs import find_runs
from clipreid_kit.reports.tables import (
    csv_text,
    evaluation_rows,
    rates_markdown,
    remark_rows,
    runs_markdown,
    split_rows,
    training_markdown,
    training_rows,
    version_rows,
)

_LONGEST_REMARK = 50  # of a table for a terminal


def gather_runs(folders: list[Path], out: Path, *, published: Path | None = None) -> str:
    """Write tables and figures of all runs in the folders, and return a summary in Markdown.

    Needs matplotlib (``pip install clipreid_kit[report]``).

    Args:
        folders: Folders of runs, or folders that hold runs at any depth.
        out: Folder to write to.
        published: A CSV file of published figures, to lay beside those of the runs that bear their
            names: columns ``version``, ``source`` and some of ``R1``, ``R5``, ``R10`` and ``mAP``,
            in percent. ``None`` for no comparison.

    Raises:
        ValueError: If there is no run, a file is damaged, no run has a published name, or ``out``
            holds a file of one of these names that was not written here, or was changed since;
            nothing is written then.
    """
    runs = find_runs(folders)
    training, versions = training_rows(runs), version_rows(runs)

    splits_text = rates_markdown(split_rows(runs), ["version", "moment"], "splits")
    version_columns = ["version", "moment", "num_runs"]
    versions_text = rates_markdown(versions, version_columns, "runs with other seeds")

    changes = change_rows(runs)
    changes_text = rates_markdown(
        changes, ["version", "num_runs", "num_worse"], "runs with other seeds"
    )

    files = {
        "evaluation.csv": csv_text(evaluation_rows(runs)),
        "evaluation.md": f"{runs_markdown(runs)}\n{splits_text}",
        "training.csv": csv_text(training),
        "training.md": training_markdown(training),
        "versions.csv": csv_text(versions),
        "remarks.csv": csv_text(remark_rows(runs)),
        "versions.md": (
            f"# Versions\n\n{versions_text}\n# Change against the frozen start model\n\n"
            f"{changes_text}"
        ),
        "changes.csv": csv_text(changes),
    }

    beside = ""
    if published is not None:
        compared = published_rows(versions, read_published(published))
        beside = published_markdown(compared)
        files |= {"published.csv": csv_text(compared), "published.md": beside}

    contents = {name: content.encode() for name, content in files.items()}
    with tempfile.TemporaryDirectory() as folder:
        figures = write_figures(Path(folder), runs, versions)
        for path in figures:
            contents[path.relative_to(folder).as_posix()] = read_bytes(path)
    write_own_files(out, contents)

    complete = f"{sum(run.complete for run in runs)} of {len(runs)} runs complete."
    written = f"{len(files)} tables and {len(figures)} figures: {out}"
    beside = f"{beside}\n" if beside else ""
    listed = runs_markdown(runs, _LONGEST_REMARK)
    return f"{listed}\n{files['versions.md']}\n{beside}{complete} {written}\n"

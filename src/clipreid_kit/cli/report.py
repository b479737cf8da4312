"""``clipreid report``: gather runs into tables and figures."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of runs, or folders that hold runs at any depth.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("report"),
) -> None:
    """Gather runs into tables and figures, and print the tables.

    Example: clipreid report runs --out tables
    """
    from clipreid_kit.reports import gather_runs

    print(gather_runs(runs, out), end="")

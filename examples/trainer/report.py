"""``python -m examples.trainer.report RUNS...``: gather runs into tables and figures."""

import argparse
import sys
from pathlib import Path

from clipreid_kit.reports import gather_runs


def main(arguments: list[str] | None = None) -> int:
    """Write tables and figures, and print the tables; an expected error becomes one line."""
    parser = argparse.ArgumentParser(prog="python -m examples.trainer.report", description=__doc__)
    parser.add_argument(
        "runs", type=Path, nargs="+", help="folders of runs, or folders that hold runs at any depth"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("report"), help="folder to write to (default: report)"
    )
    parser.add_argument(
        "--published",
        type=Path,
        metavar="CSV",
        help="published figures to lay beside the runs of their names",
    )
    options = parser.parse_args(arguments)

    try:
        print(gather_runs(options.runs, options.out, published=options.published), end="")
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

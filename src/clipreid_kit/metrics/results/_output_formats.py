"""Results as text: aligned tables, JSON and CSV."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipreid_kit._files import write_whole
from clipreid_kit._read_files import exists
from clipreid_kit.metrics.results.bootstrap import ConfidenceInterval

Columns = dict[str, npt.NDArray[Any]]


def measure_table(
    rates: Mapping[str, float],
    intervals: Sequence[ConfidenceInterval],
    confidence: float,
    note: str,
) -> str:
    """Format rates in percent as a table.

    Args:
        rates: Rates by name, as fractions.
        intervals: Confidence interval of each rate; empty if none is known.
        confidence: Confidence of the intervals, for the header.
        note: Line below the table.
    """
    rows = [["", "percent"]]
    for name, rate in rates.items():
        rows.append([name, f"{100 * rate:.2f}"])

    if intervals:
        rows[0].append(f"{100 * confidence:g} % interval")
        for row, interval in zip(rows[1:], intervals, strict=True):
            row.append(f"{100 * interval.low:.2f} to {100 * interval.high:.2f}")

    return "\n".join([*align(rows), note])


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: the first column left-aligned, all others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def json_text(values: Mapping[str, Any]) -> str:
    """Return JSON for a file; NaN and infinity, which JSON lacks, become null."""
    text = json.dumps(_to_plain(values), indent=2, allow_nan=False, ensure_ascii=False)
    return text + "\n"


def write_columns(path: str | Path, columns: Columns) -> None:
    """Write columns of one length as a CSV file with a header; NaN is an empty cell."""
    exists(path)  # refuses names that cannot be
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*map(_cells, columns.values()), strict=True))
    write_whole(Path(path), text.getvalue().encode(), flush=False)


def _cells(column: npt.NDArray[Any]) -> list[Any]:
    return ["" if _is_nan(value) else value for value in column.tolist()]


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _to_plain(value: object) -> object:
    """Replace arrays by lists, and numbers that JSON lacks by None."""
    if isinstance(value, Mapping):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

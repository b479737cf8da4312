"""Results as text: aligned tables, JSON, CSV."""

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
from clipreid_kit.metrics.results.bootstrap import ConfidenceInterval

Columns = dict[str, npt.NDArray[Any]]


def measure_table(
    rates: Mapping[str, float],
    intervals: Sequence[ConfidenceInterval],
    confidence: float,
    note: str,
) -> str:
    """Rates in percent, one below the other, beside their intervals where they are known, and a note below."""
    rows = [["", "percent"], *([name, f"{100 * rate:.2f}"] for name, rate in rates.items())]
    if intervals:
        rows[0].append(f"{100 * confidence:g} % interval")
        for row, interval in zip(rows[1:], intervals, strict=True):
            row.append(f"{100 * interval.low:.2f} to {100 * interval.high:.2f}")
    return "\n".join([*aligned(rows), note])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column to the left and all others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def json_text(values: Mapping[str, Any]) -> str:
    """JSON for a file; NaN and infinity, which JSON lacks, are null."""
    return json.dumps(_plain(values), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_columns(path: str | Path, columns: Columns) -> None:
    """Columns of one length as a CSV file with a header; NaN is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(_cells(column) for column in columns.values()), strict=True))
    write_whole(Path(path), text.getvalue().encode(), flush=False)


def _cells(column: npt.NDArray[Any]) -> list[Any]:
    return [
        "" if isinstance(value, float) and math.isnan(value) else value for value in column.tolist()
    ]


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [
            _plain(each) for each in (value.tolist() if isinstance(value, np.ndarray) else value)
        ]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

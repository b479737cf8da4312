"""Published figures, laid beside those of runs."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from clipreid_kit._read_files import read_text
from clipreid_kit.reports.measures import COMPARED, percent
from clipreid_kit.reports.tables import Row, markdown_table

_OWNER = "read_published"


@dataclass(frozen=True, slots=True)
class Published:
    """Figures of a version in a publication.

    Attributes:
        version: Name of the version, which is that of the folder of its runs.
        source: The publication.
        rates: Fractions by column, such as ``mAP`` and ``R1``; those that it states.
    """

    version: str
    source: str
    rates: dict[str, float]


def read_published(path: str | PathLike[str]) -> list[Published]:
    """Read published figures from a CSV file.

    Args:
        path: A file with the columns ``version``, ``source`` and some of ``R1``, ``R5``, ``R10``
            and ``mAP``, in percent; a cell is empty where the publication states no figure.

    Raises:
        ValueError: If the file cannot be read, a column is missing or unknown, or a figure is no
            number in [0, 100].
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot read published figures ({error}).") from None

    reader = csv.DictReader(io.StringIO(text))
    columns = reader.fieldnames or []
    unknown = [name for name in columns if name not in ("version", "source", *COMPARED)]
    if unknown or not {"version", "source"} <= set(columns):
        raise ValueError(
            f"{path}: expected the columns version, source and some of {', '.join(COMPARED)}, got "
            f"{', '.join(columns) or 'none'}."
        )

    published = []
    for row in reader:
        rates = {}
        for column in COMPARED:
            if row.get(column):
                rates[column] = _fraction(path, row["version"], column, row[column])
        published.append(Published(row["version"], row["source"], rates))
    return published


def published_rows(versions: Sequence[Row], published: Sequence[Published]) -> list[Row]:
    """One row for each version, task and column of images that a publication states.

    Args:
        versions: Rows of :func:`version_rows`.
        published: The published figures.

    Raises:
        ValueError: If no version has the name of a published one.
    """
    table: list[Row] = []
    for figures in published:
        for row in versions:
            if _is_of(row, figures.version):
                table += _compared(row, figures)

    if not table:
        names = ", ".join(figures.version for figures in published)
        raise ValueError(
            f"{_OWNER}: no complete run has the name of a published version. Name the folders of "
            f"runs after them: {names}."
        )
    return table


def published_markdown(table: Sequence[Row]) -> str:
    """The rows in percent, with the source of each figure."""
    heads = ["version", "task", "rate", "runs", "measured", "published", "difference", "source"]
    rows = []
    for row in table:
        mean, spread = row["measured_fraction"], row["measured_std_fraction"]
        rows.append(
            [
                str(row["version"]),
                str(row["task"]),
                str(row["rate"]),
                str(row["num_runs"]),
                percent(mean, spread),  # type: ignore[arg-type]
                percent(row["published_fraction"]),  # type: ignore[arg-type]
                f"{100 * float(row['difference_fraction'] or 0):+.2f}",
                str(row["source"]),
            ]
        )
    return f"# Published figures (%)\n\n{markdown_table(heads, rows)}\n"


def _fraction(path: str | PathLike[str], version: str, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise ValueError(f"{path}: {column} of {version} is {text!r}, and no percentage.")
    return value / 100


def _is_of(row: Row, version: str) -> bool:
    """Whether a row is of the trained model of a version, asked with images."""
    is_tested = row["moment"] in ("after", "zero_shot")
    is_of_images = str(row["task"]).partition(".")[0] == "image_to_image"
    return is_tested and is_of_images and Path(str(row["version"])).name == version


def _compared(row: Row, figures: Published) -> list[Row]:
    """A row for each figure that was measured as well."""
    table: list[Row] = []
    for column, rate in figures.rates.items():
        measured = row[f"{column}_fraction"]
        if not isinstance(measured, float):
            continue

        table.append(
            {
                "version": row["version"],
                "task": row["task"],
                "rate": column,
                "num_runs": row["num_runs"],
                "measured_fraction": measured,
                "measured_std_fraction": row[f"{column}_std_fraction"],
                "published_fraction": rate,
                "difference_fraction": measured - rate,
                "source": figures.source,
            }
        )
    return table

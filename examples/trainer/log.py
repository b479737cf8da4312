"""The log of a training run: one row an epoch, in a file, on the console and in trackers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from clipreid_kit.reports import epoch_line, flat, write_json
from examples.trainer.batches import Batch

Row = dict[str, Any]
TEXT_LOG = "train.log"
METRICS = "metrics.jsonl"


def write_text_log(path: Path, text: str) -> None:
    """Append lines to a text log, each with the time."""
    now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{now}  {line}\n" for line in text.splitlines())


def time_left(seconds: float) -> str:
    """Say how long the training will still take, if that is more than some seconds.

    >>> time_left(0), time_left(95), time_left(5400)
    ('', '  about 2 min left', '  about 1.5 h left')
    """
    if seconds < 10:
        return ""
    if seconds < 3600:
        return f"  about {math.ceil(seconds / 60)} min left"
    return f"  about {seconds / 3600:.1f} h left"


@dataclass
class Log:
    """Rows of a training run, one an epoch.

    Attributes:
        folder: Where ``metrics.jsonl`` is written.
        accelerator: Its main process writes, and its trackers are told.
        console: Whether a progress bar and a line for each epoch are printed.
        prefix: Of what trackers are told, where a run trains several times.
        phase: Of what the console and the text log are told, likewise.
        first_epoch: Epochs that the run has trained before, for the steps of trackers.
        text: The text log, which gets the same lines as the console; defaults to ``train.log`` in
            ``folder``.
    """

    folder: Path
    accelerator: Accelerator
    console: bool
    prefix: str = ""
    phase: str = ""
    first_epoch: int = 0
    text: Path | None = None
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Append the row of an epoch."""
        self.rows.append(row)

    def write(self) -> None:
        """Write all rows, whole or not at all."""
        write_json(self.folder / METRICS, self.rows)

    def tell(self, row: Row, epochs: int) -> None:
        """Tell trackers, the text log and the console about an epoch.

        Args:
            row: The epoch.
            epochs: Epochs of the training, for the time that is left.
        """
        pairs = flat(row, self.prefix)
        numbers = {name: value for name, value in pairs if isinstance(value, int | float)}
        self.accelerator.log(numbers, step=self.first_epoch + row["epoch"])

        line = self.title(epoch_line(row))
        write_text_log(self.text or self.folder / TEXT_LOG, line)
        if self.console:
            tqdm.write(line + time_left((epochs - row["epoch"]) * row["seconds"]))

    def say(self, text: str) -> None:
        """Print a line on the console, where it shows epochs."""
        if self.console and self.accelerator.is_main_process:
            tqdm.write(self.title(text))

    def title(self, text: str) -> str:
        """A text with the phase before it, if there are several."""
        return f"{self.phase}: {text}" if self.phase else text

    def progress(self, batches: Iterator[Batch], total: int, title: str) -> "tqdm[Batch]":
        """A progress bar over batches, in the main process and where the console shows epochs."""
        shown = self.console and self.accelerator.is_main_process
        return tqdm(
            batches,
            total=total,
            desc=self.title(title),
            leave=False,
            disable=None if shown else True,
        )

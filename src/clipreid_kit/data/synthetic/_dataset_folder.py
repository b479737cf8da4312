"""Write a generated data set to a folder that is either complete or recognisably incomplete."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from clipreid_kit._checks import fail
from clipreid_kit._files import write_whole
from clipreid_kit._read_files import exists, is_folder, parse_json, read_bytes, read_json
from clipreid_kit._threads import usable_cores
from clipreid_kit.data.records import ImageRecord

_OWNER = "SyntheticReid.write"
_COLUMNS = ("path", "identity", "camera", "view", "caption", "split")
_PARAMETERS = "synthetic.json"
_RECORDS = "records.csv"
_MANY_IMAGES = 1000


def write_folder(
    folder: Path,
    records: Sequence[ImageRecord],
    parameters: Mapping[str, object],
    render: Callable[[int], Image.Image],
    progress: Callable[[int, int], None] | None,
    workers: int | None = 0,
) -> None:
    """Bring a folder to the state that the parameters describe, drawing only the missing images.

    ``synthetic.json`` is written first and ``records.csv`` last, so a folder without
    ``records.csv`` belongs to an interrupted call; calling again finishes it. Every file gets its
    name only once it is complete.

    Args:
        folder: Target folder: absent, empty, or written here before with the same parameters.
        records: One record for each image, with paths relative to the folder.
        parameters: The parameters that determine the images, as JSON values.
        render: Draws the image of the record at a given index of ``records``.
        progress: Called with (images done, number of images) after each image that is drawn.
        workers: Processes that draw; ``None`` for as many as pay.

    Raises:
        ValueError: If the folder holds anything else.
    """
    _claim_folder(folder, parameters)
    table_path = folder / _RECORDS
    table = _records_as_csv(records)
    _check_table(table_path, table)

    missing = [row for row, record in enumerate(records) if not _is_written(folder / record.path)]

    # Without its table the folder counts as incomplete while images are drawn.
    if missing:
        table_path.unlink(missing_ok=True)
        images = _MissingImages(folder, records, missing, render)
        count = _workers_that_pay(len(missing)) if workers is None else workers

        already = len(records) - len(missing)
        for done, _ in enumerate(_drawn_by(count, images), start=already + 1):
            if progress is not None:
                progress(done, len(records))

    if not table_path.exists():
        write_whole(table_path, table)


class _MissingImages(Dataset[int]):
    """Images of which each is drawn and written when its item is asked for."""

    def __init__(
        self,
        folder: Path,
        records: Sequence[ImageRecord],
        rows: Sequence[int],
        render: Callable[[int], Image.Image],
    ) -> None:
        self.paths = [folder / records[row].path for row in rows]
        self.rows = rows
        self.render = render

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> int:
        """Draw an image, and return its row."""
        path, row = self.paths[number], self.rows[number]
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_png(path, self.render(row))
        return row


def _drawn_by(workers: int, images: _MissingImages) -> "DataLoader[int]":
    """Draw images in processes, which end with this one even if it is killed."""
    own = torch.Generator()  # without one, a loader draws from torch's global one
    return DataLoader(images, batch_size=None, num_workers=workers, generator=own)


def _workers_that_pay(num_images: int) -> int:
    """Number of processes to draw with: one per core; 0 for few images."""
    cores = usable_cores()
    return cores if cores > 1 and num_images >= _MANY_IMAGES else 0


def _claim_folder(folder: Path, parameters: Mapping[str, object]) -> None:
    """Write the parameters into a new folder, or compare them with those of an existing one."""
    if exists(folder) and not is_folder(folder):
        raise fail(_OWNER, "a folder", f"the file {folder}", "Name a new or empty folder.")

    parameter_file = folder / _PARAMETERS
    if parameter_file.exists():
        _check_parameters(parameter_file, parameters)
        return

    folder.mkdir(parents=True, exist_ok=True)
    _check_empty(folder)
    text = json.dumps(parameters, indent=2) + "\n"
    write_whole(parameter_file, text.encode())


def _check_empty(folder: Path) -> None:
    """Raise ValueError if the folder holds files other than an unfinished parameter file."""
    names = [entry.name for entry in folder.iterdir()]
    foreign = [name for name in names if not name.lstrip(".").startswith(_PARAMETERS)]

    if foreign:
        examples = ", ".join(sorted(foreign)[:3])
        if len(foreign) > 3:
            examples += " ..."
        raise ValueError(
            f"{_OWNER}: {folder} holds other files ({examples}) and no {_PARAMETERS}. "
            "Nothing was written; name a new or empty folder."
        )


def _check_parameters(parameter_file: Path, parameters: Mapping[str, object]) -> None:
    """Raise ValueError if the folder was written with other parameters."""
    try:
        found = read_json(parameter_file)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{_OWNER}: {parameter_file} is not valid JSON ({error}). "
            "Remove the folder and write it again."
        ) from None

    wanted = parse_json(json.dumps(parameters))
    if found == wanted:
        return

    if not isinstance(found, dict):
        found = {}

    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if not differing:
        extra = ", ".join(sorted(found.keys() - wanted.keys()))
        raise ValueError(
            f"{_OWNER}: {parameter_file} has parameters that are unknown here ({extra}). "
            "Name another folder, or remove this one."
        )

    raise ValueError(
        f"{_OWNER}: {parameter_file.parent} was written with {_listed(found, differing)}; "
        f"this data set has {_listed(wanted, differing)}. Name another folder, or remove this one."
    )


def _listed(parameters: Mapping[str, object], names: Sequence[str]) -> str:
    return ", ".join(f"{name}={parameters.get(name)}" for name in names)


def _records_as_csv(records: Sequence[ImageRecord]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")

    further = [
        name
        for name in ("modality", "tracklet", "frame")
        if any(getattr(record, name) is not None for record in records)
    ]
    columns = (*_COLUMNS, *further)
    writer.writerow(columns)
    for record in records:
        writer.writerow([getattr(record, column) for column in columns])

    return text.getvalue().encode()


def _check_table(path: Path, table: bytes) -> None:
    if path.exists() and read_bytes(path) != table:
        raise ValueError(
            f"{_OWNER}: {path} was changed since it was written. "
            "Keep an edited table under another name, or remove this one."
        )


def _write_png(path: Path, image: Image.Image) -> None:
    encoded = io.BytesIO()
    image.save(encoded, format="PNG")
    write_whole(path, encoded.getvalue(), flush=False)


def _is_written(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0

"""A generated data set as a folder that is either complete or known to be incomplete."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from clipreid_kit._checks import fail
from clipreid_kit._files import write_whole
from clipreid_kit.data.records import ImageRecord

_OWNER = "SyntheticReid.write"
_COLUMNS = ("path", "identity", "camera", "view", "caption", "split")
_PARAMETERS = "synthetic.json"
_RECORDS = "records.csv"


def write_folder(
    folder: Path,
    records: Sequence[ImageRecord],
    parameters: Mapping[str, object],
    render: Callable[[int], Image.Image],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Bring a folder to the state that the parameters describe, and do no more than that needs.

    ``synthetic.json`` is written first and ``records.csv`` last, so a folder without the latter is an
    interrupted one; calling again finishes it. Every file gets its name only when it is whole.

    Args:
        folder: Where to; absent, empty, or written here before with the same parameters.
        records: One for each image, with paths relative to the folder.
        parameters: What the images depend on, as JSON values.
        render: Draws the image of the record with a given position in ``records``.
        progress: Called with (images done, images in all) after each image that is drawn.

    Raises:
        ValueError: If the folder holds something else.
    """
    _claim(folder, parameters)
    table = _table(records)
    _check_table(folder / _RECORDS, table)
    missing = [
        number for number, record in enumerate(records) if not _is_whole(folder / record.path)
    ]
    if missing:
        (folder / _RECORDS).unlink(missing_ok=True)
        for parent in {(folder / records[number].path).parent for number in missing}:
            parent.mkdir(parents=True, exist_ok=True)
    for done, number in enumerate(missing, start=len(records) - len(missing) + 1):
        encoded = io.BytesIO()
        render(number).save(encoded, format="PNG")
        write_whole(folder / records[number].path, encoded.getvalue(), flush=False)
        if progress is not None:
            progress(done, len(records))
    if not (folder / _RECORDS).exists():
        write_whole(folder / _RECORDS, table)


def _claim(folder: Path, parameters: Mapping[str, object]) -> None:
    if folder.exists() and not folder.is_dir():
        raise fail(_OWNER, "a folder", f"the file {folder}", "Name a new or empty folder.")
    note = folder / _PARAMETERS
    wanted = json.dumps(parameters, indent=2) + "\n"
    if not note.exists():
        folder.mkdir(parents=True, exist_ok=True)
        foreign = sorted(
            entry.name
            for entry in folder.iterdir()
            if not entry.name.lstrip(".").startswith(_PARAMETERS)
        )
        if foreign:
            raise fail(
                _OWNER,
                f"a new or empty folder, or one with a {_PARAMETERS}",
                f"{folder} with {', '.join(foreign[:3])}{' ...' if len(foreign) > 3 else ''}",
                "Name another folder; nothing was written.",
            )
        write_whole(note, wanted.encode())
        return
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except ValueError as error:
        raise fail(
            _OWNER,
            f"{note} as JSON",
            f"text that cannot be read ({error})",
            "Remove the folder and write again.",
        ) from None
    if found != json.loads(wanted):
        found = found if isinstance(found, dict) else {}
        differing = [
            name for name in json.loads(wanted) if found.get(name) != json.loads(wanted)[name]
        ]
        raise fail(
            _OWNER,
            ", ".join(f"{name}={json.loads(wanted)[name]}" for name in differing)
            or "the same parameters",
            f"{folder}, which was written with "
            + (
                ", ".join(f"{name}={found.get(name)}" for name in differing) or "others beside them"
            ),
            "Name another folder, or remove this one.",
        )


def _table(records: Sequence[ImageRecord]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows([getattr(record, column) for column in _COLUMNS] for record in records)
    return text.getvalue().encode()


def _check_table(path: Path, table: bytes) -> None:
    if path.exists() and path.read_bytes() != table:
        raise fail(
            _OWNER,
            f"{path} as it was written",
            "a changed file",
            "Keep an edited table under another name, or remove this one.",
        )


def _is_whole(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0

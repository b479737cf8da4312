"""Images and models that several commands are given."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from clipreid_kit.data import ImageRecord
    from clipreid_kit.retrieval import Encoder, SkippedImage

OnError = Literal["raise", "skip"]

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="A training run, a checkpoint, or NAME:TAG (ViT-B-16:openai, timm/resnet50:a1_in1k)."
    ),
]
ImagesArgument = Annotated[
    Path, typer.Argument(help="A folder, a zip archive, a table (.csv, .json, ...) or an image.")
]
PatternOption = Annotated[
    str | None,
    typer.Option(help="Where paths say who it is, such as '{identity}_c{camera}*.jpg'."),
]
SplitOption = Annotated[
    list[str] | None,
    typer.Option(help="Only images of this split (of a folder: its folders); several times."),
]
OnErrorOption = Annotated[
    OnError, typer.Option(help="An image that cannot be read: stop, or leave it out and name it.")
]
CheckpointOption = Annotated[
    str, typer.Option(help="Of a run: best, last, or a name such as epoch-0003.")
]
TowersOnlyOption = Annotated[
    bool, typer.Option("--towers-only", help="Use the towers of a method without the rest of it.")
]
BatchOption = Annotated[int, typer.Option(min=1, help="Images encoded at once.")]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes that load images.")]
DeviceOption = Annotated[
    str | None, typer.Option(help="cpu, cuda, ...; a GPU is used if there is one.")
]


def read_records(
    source: Path, pattern: str | None = None, splits: Sequence[str] | None = None
) -> "list[ImageRecord]":
    """Read the records of a folder, an archive, a table or an image, with absolute paths.

    Raises:
        ValueError: If there are none.
    """
    records = _records(source, pattern, splits or ())
    return [replace(record, path=_absolute(record.path)) for record in records]


def _records(source: Path, pattern: str | None, splits: Sequence[str]) -> "list[ImageRecord]":
    from clipreid_kit.data import ImageRecord, read_folder, read_images, read_table
    from clipreid_kit.data.files.file_tree import is_image

    if source.is_file() and is_image(source.name):
        return [ImageRecord(str(source), source.stem)]
    if source.is_file() and source.suffix.lower() != ".zip":
        if pattern is not None:
            raise ValueError(f"--pattern has no effect: {source} is a table.")
        return _of_splits(read_table(source), splits, source)
    if pattern is not None:
        return _of_splits(read_folder(source, pattern=pattern), splits, source)
    if splits:
        return read_folder(source, splits=splits)
    return read_images(source)


def _of_splits(
    records: "list[ImageRecord]", splits: Sequence[str], source: Path
) -> "list[ImageRecord]":
    """Return the records of some splits; all of them if none is named."""
    if not splits:
        return records

    chosen = [record for record in records if record.split in splits]
    if not chosen:
        found = ", ".join(sorted({str(record.split) for record in records}))
        raise ValueError(
            f"--split {' '.join(splits)}: {source} has no such images; it has {found}."
        )
    return chosen


def _absolute(path: str) -> str:
    """Return an absolute path, also of a member of an archive, which an index can keep."""
    from clipreid_kit.data.files.archives import split_member

    file, member = split_member(path)
    absolute = str(Path(file).absolute())
    return absolute if member is None else f"{absolute}::{member}"


def open_encoder(
    model: str,
    *,
    checkpoint: str = "best",
    towers_only: bool = False,
    batch_size: int = 64,
    workers: int = 0,
    device: str | None = None,
) -> "Encoder":
    """Open the model that a command was given."""
    from clipreid_kit.retrieval import Encoder

    if device is not None:
        _check_device(device)
    return Encoder.open(
        model,
        checkpoint=checkpoint,
        towers_only=towers_only,
        batch_size=batch_size,
        workers=workers,
        device=device,
    )


def _check_device(device: str) -> None:
    """Raise BadParameter if torch has no such device, or this machine has not."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise typer.BadParameter(f"--device {device}: {reason}") from error


@contextmanager
def offering_to_skip(on_error: OnError) -> Iterator[None]:
    """Say with the error of an image that cannot be read how to leave such images out."""
    try:
        yield
    except ValueError as error:
        if on_error == "raise" and str(error).startswith("load_image: "):
            advice = "--on-error skip leaves out such images, and names them."
            raise ValueError(f"{error} {advice}") from error
        raise


def print_skipped(skipped: "Sequence[SkippedImage]") -> None:
    """Name the images that were left out, on the standard error."""
    for item in skipped:
        typer.echo(f"left out: {item.reason}", err=True)

"""``clipreid embed``: write the embeddings of images to a file."""

from pathlib import Path
from typing import Annotated

import typer

from clipreid_kit.cli._images import (
    BatchOption,
    CheckpointOption,
    DeviceOption,
    ImagesArgument,
    ModelArgument,
    OnErrorOption,
    PatternOption,
    SplitOption,
    TowersOnlyOption,
    WorkersOption,
    offering_to_skip,
    open_encoder,
    print_skipped,
    read_records,
)
from clipreid_kit.cli._store import counted_images


def embed(
    model: ModelArgument,
    images: ImagesArgument,
    out: Annotated[
        Path, typer.Argument(help="features.npz, or another name for a folder of .npy files.")
    ],
    pattern: PatternOption = None,
    split: SplitOption = None,
    on_error: OnErrorOption = "raise",
    checkpoint: CheckpointOption = "best",
    towers_only: TowersOnlyOption = False,
    batch_size: BatchOption = 64,
    workers: WorkersOption = 0,
    device: DeviceOption = None,
) -> None:
    """Write the embeddings of images to a file or folder.

    `clipreid evaluate` and other programs read them.

    Stopped in between, the same command continues with the parts that are missing.

    Example: clipreid embed runs/photos gallery/ features.npz
    """
    from clipreid_kit.retrieval import write_embeddings

    encoder = open_encoder(
        model,
        checkpoint=checkpoint,
        towers_only=towers_only,
        batch_size=batch_size,
        workers=workers,
        device=device,
    )
    records = read_records(images, pattern, split)
    with offering_to_skip(on_error):
        written = write_embeddings(encoder, records, out, on_error=on_error)

    print_skipped(written.skipped)
    resumed = f", {written.num_resumed} of them resumed" if written.num_resumed else ""
    counted = counted_images(written.num_images)
    print(f"{written.path}: {counted}{resumed}, model {written.fingerprint}")

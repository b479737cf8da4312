"""``clipreid export``: write the image tower of a checkpoint as an ONNX file."""

import re
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipreid_kit._progress_line import progress_line
from clipreid_kit.cli._outputs import check_output

if TYPE_CHECKING:
    from torch import Tensor

    from clipreid_kit.clip import ClipTowers

_MOST_IMAGES = 512  # to compare and calibrate with


class User(str, Enum):
    """Who runs the file."""

    program = "program"
    tracker = "tracker"


class Pixels(str, Enum):
    """Kind of pixels that a tracker feeds."""

    unit = "0..1"
    bytes_as_floats = "0..255"
    bytes = "uint8"
    signed = "-1..1"
    imagenet = "imagenet"


class Precision(str, Enum):
    """Numbers in the file."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


def export(
    source: Annotated[Path, typer.Argument(help="A run, one of its checkpoints, or saved towers.")],
    file: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    user: Annotated[
        User, typer.Option("--for", help="tracker: with resizing and normalisation inside.")
    ] = User.program,
    normalize: Annotated[bool, typer.Option(help="Scale every embedding to length 1.")] = True,
    tolerance: Annotated[
        float | None, typer.Option(help="Largest difference of the outputs. Default: 1e-4.")
    ] = None,
    pixels: Annotated[
        Pixels | None, typer.Option(help="Tracker: the values of a crop. Default: 0..1.")
    ] = None,
    input_size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Tracker: the size of a crop.")
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Tracker: numbers in the file. Default: float32.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Tracker: crops to measure with, a folder an identity.")
    ] = None,
) -> None:
    """Write the image tower as an ONNX file.

    The file is run and compared with the tower before it is kept.

    Input `images` (N, 3, H, W), normalised; output `embeddings` (N, D). Of a method with a head,
    the towers alone are written.

    \b
    Examples:
      clipreid export runs/photos tower.onnx
      clipreid export runs/photos person.onnx --for tracker --input-size 256x256
    """
    from clipreid_kit.clip import export_image_tower, load_towers

    checkpoint = _checkpoint_of(source)
    check_output("", file)
    of_tracker = (pixels, input_size, precision, images)
    if user is User.program:
        if any(option is not None for option in of_tracker):
            raise typer.TyperException(
                "--pixels, --input-size, --precision and --images belong to --for tracker."
            )
        towers = load_towers(checkpoint)
        difference = export_image_tower(
            towers,
            file,
            normalize=normalize,
            tolerance=tolerance or 1e-4,
            progress=progress_line(sys.stderr),
        )
        height, width = towers.image_size
        print(f"{file}: {height} x {width}, {towers.embed_dim} dimensions, within {difference:.1e}")
        return

    if not normalize:
        raise typer.TyperException("--for tracker always scales embeddings to length 1.")
    size = None if input_size is None else _size_of(input_size)
    options: dict[str, Any] = {
        "pixels": (pixels or Pixels.unit).value,
        "precision": (precision or Precision.float32).value,
        "tolerance": tolerance,
    }
    _export_for_tracker(load_towers(checkpoint), checkpoint, file, size, images, options)


def _export_for_tracker(
    towers: "ClipTowers",
    checkpoint: Path,
    file: Path,
    size: tuple[int, int] | None,
    images: Path | None,
    options: dict[str, Any],
) -> None:
    """Write the file, and print how it compares with the towers."""
    from clipreid_kit.clip import export_for_tracker, read_card

    height, width = towers.image_size if size is None else size
    crops, labels = (None, None) if images is None else _crops_of(images, (height, width))
    spec: Any = read_card(checkpoint).get("image_spec", {})

    found = export_for_tracker(
        towers,
        file,
        input_size=size,
        mean=spec.get("mean"),
        std=spec.get("std"),
        images=crops,
        labels=labels,
        progress=progress_line(sys.stderr),
        **options,
    )
    print(
        f"{file}: crops of {height} x {width} in {options['pixels']}, {towers.embed_dim} "
        f"dimensions, {options['precision']}, within {found.difference:.1e}"
    )
    if found.mean_ap is not None and found.mean_ap_of_towers is not None:
        print(f"mAP {100 * found.mean_ap:.2f}, of the towers {100 * found.mean_ap_of_towers:.2f}")


def _size_of(text: str) -> tuple[int, int]:
    """Height and width of a text such as 256x128."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise typer.BadParameter(f"--input-size {text}: write HEIGHTxWIDTH, such as 256x128")
    return int(match[1]), int(match[2])


def _crops_of(folder: Path, size: tuple[int, int]) -> "tuple[Tensor, Tensor]":
    """Images of a folder as bytes of one size, evenly spread over it, and their labels."""
    import torch
    from torchvision.transforms import v2

    from clipreid_kit.data import ReidDataset, read_folder

    to_bytes = v2.Compose([v2.PILToTensor(), v2.Resize(list(size), antialias=True)])
    dataset = ReidDataset(read_folder(folder), to_bytes)
    step = -(-len(dataset) // _MOST_IMAGES)
    items = [dataset[row] for row in range(0, len(dataset), step)]
    labels = torch.tensor([item.label for item in items], device="cpu")
    return torch.stack([item.image for item in items]), labels


def _checkpoint_of(source: Path) -> Path:
    """The folder with the weights: of the best epoch, if a run is given."""
    from clipreid_kit.clip import TrainingCheckpoints
    from clipreid_kit.clip.checkpoints.save_load import CARD_FILE

    checkpoints = TrainingCheckpoints(source / "checkpoints")
    if checkpoints.exists():
        return checkpoints.path("best")
    if not (source / CARD_FILE).exists():
        raise ValueError(
            f"export: {source} is no run, no checkpoint, and holds no saved towers (a {CARD_FILE})."
        )
    return source

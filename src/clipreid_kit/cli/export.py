"""``clipreid export``: write the image tower of a checkpoint as an ONNX file."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    source: Annotated[Path, typer.Argument(help="A run, one of its checkpoints, or saved towers.")],
    file: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    normalize: Annotated[bool, typer.Option(help="Scale every embedding to length 1.")] = True,
    tolerance: Annotated[
        float, typer.Option(help="Largest difference between the file and the tower.")
    ] = 1e-4,
) -> None:
    """Write the image tower as an ONNX file, and compare the file with the tower.

    Input `images` (N, 3, H, W), normalised; output `embeddings` (N, D). Of a method with a head,
    the towers alone are written.

    Example: clipreid export runs/photos tower.onnx
    """
    from clipreid_kit.clip import export_image_tower, load_towers

    towers = load_towers(_checkpoint_of(source))
    difference = export_image_tower(towers, file, normalize=normalize, tolerance=tolerance)
    height, width = towers.image_size
    print(f"{file}: {height} x {width}, {towers.embed_dim} dimensions, within {difference:.1e}")


def _checkpoint_of(source: Path) -> Path:
    """The folder with the weights: of the best epoch, if a run is given."""
    from clipreid_kit.clip import TrainingCheckpoints

    checkpoints = TrainingCheckpoints(source / "checkpoints")
    return checkpoints.path("best") if checkpoints.exists() else source

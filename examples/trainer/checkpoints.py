"""Find the run of a checkpoint, and what a checkpoint holds beside towers."""

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

_HEADS = "heads.safetensors"


def find_run(source: Path) -> Path:
    """The folder of a run: of the run itself, of its checkpoints, or of one of them.

    Raises:
        ValueError: If there is no such run.
    """
    for folder in (source, *source.absolute().parents[:2]):
        if (folder / "recipe.json").is_file():
            return folder
    raise ValueError(
        f"{source}: this is neither a run (a folder with a recipe.json) nor a checkpoint of one."
    )


def parts_beside_towers(checkpoint: Path) -> list[str]:
    """Parts of a method beside its towers and its losses, such as ``identity_branch``."""
    file = checkpoint / _HEADS
    if not file.is_file():
        return []

    with safe_open(file, framework="pt") as tensors:
        parts = {name.partition(".")[0] for name in tensors.keys()}  # noqa: SIM118 (no mapping)
    return sorted(parts - {"losses"})


def head_tensors(checkpoint: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint beside the towers, by name; empty if it has none."""
    file = checkpoint / _HEADS
    return load_file(file) if file.is_file() else {}

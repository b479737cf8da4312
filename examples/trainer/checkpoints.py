"""Find the run of a checkpoint, the checkpoint of a run, and what a checkpoint holds."""

from pathlib import Path

from safetensors import safe_open

from clipreid_kit.clip import TrainingCheckpoints

_WEIGHTS, _HEADS = "model.safetensors", "heads.safetensors"


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


def find_checkpoint(source: Path, which: str = "best") -> Path | None:
    """The folder of a checkpoint; ``None`` if a run has trained nothing.

    Args:
        source: A run, its folder of checkpoints, or a single checkpoint.
        which: ``best``, ``last``, or the name of a checkpoint such as ``epoch-0003``.

    Raises:
        ValueError: If there is no checkpoint of that name.
    """
    if _is_checkpoint(source):
        if which not in ("best", source.name):
            raise ValueError(f"{source}: this is a single checkpoint; leave out {which}.")
        return source

    folder = source if source.name == "checkpoints" else source / "checkpoints"
    checkpoints = TrainingCheckpoints(folder)
    if not checkpoints.exists():
        return None
    match which:
        case "best" | "last":
            return checkpoints.path(which)

    if not _is_checkpoint(folder / which):
        found = sorted(path.name for path in folder.iterdir() if _is_checkpoint(path))
        raise ValueError(
            f"{source}: there is no checkpoint {which}; use best, last or one of "
            f"{', '.join(found)}."
        )
    return folder / which


def parts_beside_towers(checkpoint: Path) -> list[str]:
    """Parts of a method beside its towers and its losses, such as ``identity_branch``."""
    file = checkpoint / _HEADS
    if not file.is_file():
        return []

    with safe_open(file, framework="pt") as tensors:
        parts = {name.partition(".")[0] for name in tensors.keys()}  # noqa: SIM118 (no mapping)
    return sorted(parts - {"losses"})


def _is_checkpoint(folder: Path) -> bool:
    return (folder / _WEIGHTS).is_file() or (folder / _HEADS).is_file()

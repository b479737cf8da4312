"""Find the checkpoint of a training run."""

from os import PathLike
from pathlib import Path

from clipreid_kit.clip.checkpoints.method_weights import HEADS_FILE
from clipreid_kit.clip.checkpoints.save_load import WEIGHTS_FILE
from clipreid_kit.clip.checkpoints.training_checkpoints import TrainingCheckpoints


def find_checkpoint(source: str | PathLike[str], which: str = "best") -> Path | None:
    """Return the folder of a checkpoint; ``None`` if a folder holds none.

    Args:
        source: A training run with a folder ``checkpoints``, a folder of
            :class:`TrainingCheckpoints`, a single checkpoint, or a folder of :func:`save_towers`.
        which: Of a run: ``"best"``, ``"last"``, or the name of a checkpoint such as
            ``"epoch-0003"``.

    Returns:
        The folder, or ``None`` if nothing was trained there.

    Raises:
        ValueError: If there is no checkpoint of that name.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = TrainingCheckpoints(folder).save(1, nn.Linear(2, 2), {}, best=True)
        ...     find_checkpoint(folder) == path, find_checkpoint(path) == path
        (True, True)
    """
    source = Path(source)
    if _is_checkpoint(source):
        if which not in ("best", source.name):
            raise ValueError(
                f"{source}: this is a single checkpoint; leave out the name {which!r}."
            )
        return source

    folder = source if source.name == "checkpoints" else source / "checkpoints"
    if TrainingCheckpoints(source).exists():
        folder = source
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


def _is_checkpoint(folder: Path) -> bool:
    return (folder / WEIGHTS_FILE).is_file() or (folder / HEADS_FILE).is_file()

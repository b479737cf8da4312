"""Crash-safe training checkpoints."""

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Collection, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, check_integer, fail
from clipreid_kit._files import flush_folder, write_whole
from clipreid_kit.clip.checkpoints.json_check import check_json
from clipreid_kit.clip.checkpoints.save_load import CARD_FILE, WEIGHTS_FILE, save_towers
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.towers.load_weights import LoadReport, load_weights
from clipreid_kit.clip.towers.read_weights import read_weights

HEADS_FILE = "heads.safetensors"
STATE_FILE = "trainer.pt"
INDEX_FILE = "index.json"

_OWNER = "TrainingCheckpoints"
_TOWERS_PREFIX = "towers."
_UNREADABLE = (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile)


class TrainingCheckpoints:
    """The last and the best checkpoint of a training run, in a folder, complete at any instant.

    Use it in any training loop that has to survive a kill, a full disk or a loss of power::

        checkpoints = TrainingCheckpoints("run/checkpoints")
        start = 0
        if checkpoints.exists():  # resume
            checkpoints.load("last", method)
            state = checkpoints.state()
            optimizer.load_state_dict(state["optimizer"])
            start = state["epoch"]
        for epoch in range(start + 1, 11):
            ...
            state = {"epoch": epoch, "optimizer": optimizer.state_dict()}
            checkpoints.save(epoch, method, state, best=improved)
        checkpoints.load("best", method)

    A checkpoint is a folder that appears by one rename, complete and flushed to the disk. It holds
    the towers as :func:`save_towers` writes them, ``heads.safetensors`` with all other tensors,
    and ``trainer.pt`` with the state of the run. ``index.json`` names the last and the best
    checkpoint and is itself replaced by one rename, so that the two names always belong together.
    Older checkpoints are deleted afterwards.

    The method is any module, not wrapped by DDP. If it holds :class:`ClipTowers` under the name
    ``towers``, or is one, these are saved separately; frozen towers inside a method are not saved.
    All tensors of other modules are in ``heads.safetensors``. In distributed training, one process
    saves.

    Args:
        folder: Folder of the checkpoints; created at the first save.

    Example:
        >>> import tempfile
        >>> method = nn.Linear(2, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoints = TrainingCheckpoints(folder)
        ...     for epoch in (1, 2, 3):
        ...         path = checkpoints.save(epoch, method, {"epoch": epoch}, best=epoch == 2)
        ...     checkpoints.path("last").name, checkpoints.path("best").name, checkpoints.state()
        ('epoch-0003', 'epoch-0002', {'epoch': 3})
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        """Show the folder."""
        return f"TrainingCheckpoints({str(self.folder)!r})"

    def exists(self) -> bool:
        """Return whether a checkpoint was completed."""
        return (self.folder / INDEX_FILE).is_file()

    def path(self, which: Literal["last", "best"]) -> Path:
        """Return the folder of a checkpoint.

        Args:
            which: The ``"last"`` or the ``"best"`` checkpoint.

        Returns:
            The folder.

        Raises:
            ValueError: If there is no checkpoint, or the index cannot be read.
        """
        check_choice(_OWNER, "which", which, ("last", "best"))
        return self.folder / self._read_index()[which]

    def save(
        self,
        epoch: int,
        method: nn.Module,
        state: Mapping[str, Any],
        *,
        best: bool,
        card: Mapping[str, Any] | None = None,
    ) -> Path:
        """Save a method and the state of its training run as the last checkpoint.

        Args:
            epoch: Number of the epoch, or step, for the folder's name; at least 0.
            method: The module with the weights.
            state: State that the run needs to resume: tensors, numbers, strings, and lists and
                dictionaries of these, as in the ``state_dict()`` of optimisers and generators.
            best: Whether it is also the best checkpoint so far. The first one always is.
            card: JSON-serialisable data to keep in the card of the towers. ``None`` for none.

        Returns:
            The folder of the checkpoint.

        Raises:
            ValueError: If the state holds something that could not be loaded again, or the card is
                not JSON-serialisable.
            OSError: If the disk is full or fails; the previous checkpoints are unchanged.
        """
        check_integer(_OWNER, "epoch", epoch, 0)
        check_json(_OWNER, "card", dict(card or {}))
        packed = _pack(state)

        index = self._read_index() if self.exists() else {}
        final = self._unused_folder(epoch, index.values())
        temporary = self.folder / f".{final.name}.tmp"

        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            _write_weights(temporary, method, {"epoch": epoch, **(card or {})})
            write_whole(temporary / STATE_FILE, packed)

            # a run that was killed before its index named the folder may have left it
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
        except (OSError, ValueError):
            shutil.rmtree(temporary, ignore_errors=True)
            raise

        flush_folder(self.folder)
        best_name = final.name if best else index.get("best", final.name)
        self._write_index({"last": final.name, "best": best_name})
        self._delete_all_but((final.name, best_name))
        return final

    def load(self, which: Literal["last", "best"], method: nn.Module) -> LoadReport:
        """Load the weights of a checkpoint; the method is changed only if all of them fit.

        Args:
            which: The ``"last"`` or the ``"best"`` checkpoint.
            method: A module like the one that was saved.

        Returns:
            Report of the loaded tensors.

        Raises:
            ValueError: If there is no checkpoint, it is of another method, or its files are
                damaged.
        """
        folder = self.path(which)
        towers = find_towers(method)
        tensors = read_checkpoint(folder, method, towers)

        if towers is not None and not (folder / WEIGHTS_FILE).is_file():
            if towers is method or _is_trainable(towers):
                raise ValueError(
                    f"{_OWNER}: The towers train, but {folder} has no {WEIGHTS_FILE}. It was saved "
                    "with frozen towers, or the file was deleted."
                )
            tensors |= _named(method, inside_towers=True)

        if not tensors:
            raise ValueError(f"{_OWNER}: There are no weights in {folder}.")
        return load_weights(method, tensors, source_image_size=trained_image_size(folder))

    def state(self, which: Literal["last", "best"] = "last") -> dict[str, Any]:
        """Return the state of the training run after a checkpoint, with its tensors on the CPU.

        Args:
            which: The ``"last"`` or the ``"best"`` checkpoint.

        Returns:
            The state that was passed to :meth:`save`.

        Raises:
            ValueError: If there is no checkpoint, or the file is damaged or holds anything but
                data.
        """
        path = self.path(which) / STATE_FILE
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        except _UNREADABLE as error:
            raise ValueError(
                f"{_OWNER}: The state of the training run in {path} cannot be read "
                f"({type(error).__name__}). Start again in another folder."
            ) from None
        return state

    def _unused_folder(self, epoch: int, in_use: Collection[str]) -> Path:
        """Folder for an epoch that the index does not name, since the epoch may be saved again."""
        name, repeat = f"epoch-{epoch:04d}", 0
        while name in in_use:
            repeat += 1
            name = f"epoch-{epoch:04d}-{repeat}"
        return self.folder / name

    def _read_index(self) -> dict[str, str]:
        path = self.folder / INDEX_FILE
        if not path.is_file():
            raise ValueError(
                f"{_OWNER}: There is no checkpoint in {self.folder}; no epoch was completed."
            )

        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            return {which: str(index[which]) for which in ("last", "best")}
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{_OWNER}: {path} is damaged: it does not name the last and the best checkpoint."
            ) from None

    def _write_index(self, index: Mapping[str, str]) -> None:
        text = json.dumps(index, indent=2) + "\n"
        write_whole(self.folder / INDEX_FILE, text.encode())

    def _delete_all_but(self, kept: Collection[str]) -> None:
        """Delete the other checkpoints; files and folders that are no checkpoints stay."""
        for path in self.folder.iterdir():
            is_checkpoint = path.name.startswith(("epoch-", ".epoch-")) and path.is_dir()
            if is_checkpoint and path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)


def find_towers(method: nn.Module) -> ClipTowers | None:
    """Return the towers that a method is or holds under the name ``towers``, if there are any."""
    if isinstance(method, ClipTowers):
        return method

    towers = getattr(method, "towers", None)
    return towers if isinstance(towers, ClipTowers) else None


def read_checkpoint(
    folder: Path, method: nn.Module, towers: ClipTowers | None
) -> dict[str, Tensor]:
    """Read all tensors of a checkpoint that concern a method, under its names."""
    tensors: dict[str, Tensor] = {}

    if (folder / WEIGHTS_FILE).is_file():
        prefix = "" if towers is method or towers is None else _TOWERS_PREFIX
        weights = read_weights(folder / WEIGHTS_FILE)
        tensors = {prefix + name: tensor for name, tensor in weights.items()}

    if towers is not method and (folder / HEADS_FILE).is_file():
        tensors |= read_weights(folder / HEADS_FILE)
    return tensors


def trained_image_size(folder: Path) -> tuple[int, int] | None:
    """Return the (height, width) that a checkpoint was trained at, if it has a card."""
    try:
        card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        height, width = card["image_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return int(height), int(width)


def _write_weights(folder: Path, method: nn.Module, card: Mapping[str, Any]) -> None:
    """Write the towers of a method, unless they are frozen, and the tensors outside them."""
    towers = find_towers(method)
    if towers is not None and (towers is method or _is_trainable(towers)):
        save_towers(towers, folder, extra=card)

    if towers is method:
        return

    outside = _named(method, inside_towers=False) if towers else dict(method.state_dict())
    # copies: tensors that share memory cannot be in one file
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in outside.items()}
    if copies:
        write_whole(folder / HEADS_FILE, save_tensors(copies))


def _named(method: nn.Module, *, inside_towers: bool) -> dict[str, Tensor]:
    """Tensors of a method inside or outside its towers, by their names."""
    return {
        name: tensor
        for name, tensor in method.state_dict().items()
        if name.startswith(_TOWERS_PREFIX) == inside_towers
    }


def _is_trainable(towers: ClipTowers) -> bool:
    return any(parameter.requires_grad for parameter in towers.parameters())


def _pack(state: Mapping[str, Any]) -> memoryview:
    """Serialise the state in memory, because torch.save raises its own errors on a full disk.

    Raises:
        ValueError: If the state could not be loaded again.
    """
    packed = io.BytesIO()
    torch.save(dict(state), packed)

    packed.seek(0)
    unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(packed)
    if unsafe:
        raise fail(
            _OWNER,
            "a state of plain data",
            ", ".join(unsafe),
            "It could not be loaded again: use numbers, strings, tensors, lists and dictionaries.",
        )
    return packed.getbuffer()

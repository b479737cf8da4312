"""Crash-safe training checkpoints."""

import json
import re
import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any, Final, Literal

from torch import nn

from clipreid_kit._checks import check_choice, check_integer
from clipreid_kit._files import flush_folder, write_whole
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit._read_files import is_file, read_json
from clipreid_kit.clip.checkpoints.json_check import check_json
from clipreid_kit.clip.checkpoints.method_weights import (
    HEADS_FILE,
    find_towers,
    is_trainable,
    named_tensors,
    read_checkpoint,
    trained_image_size,
    write_weights,
)
from clipreid_kit.clip.checkpoints.save_load import CARD_FILE, WEIGHTS_FILE
from clipreid_kit.clip.checkpoints.state_file import (
    STATE_FILE,
    is_signed_for,
    pack_state,
    read_state,
    write_state,
)
from clipreid_kit.clip.towers.load_weights import LoadReport, load_weights
from clipreid_kit.clip.towers.wrappers import unwrapped

INDEX_FILE = "index.json"

_OWNER = "TrainingCheckpoints"
# Names of what is written here, and deleted again.
_FOLDER = re.compile(r"epoch-[0-9]{4,}(-[0-9]+)?")
_TEMPORARY_FOLDER = re.compile(r"\.epoch-[0-9]{4,}(-[0-9]+)?\.[0-9a-f]{16}\.tmp")
_FILES = frozenset({CARD_FILE, WEIGHTS_FILE, HEADS_FILE, STATE_FILE})
_TEMPORARY_INDEX = re.compile(r"\.index\.json\.[0-9a-f]{16}\.tmp")
_TEMPORARY_FILE = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


@fixed_options()
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
    and ``trainer.pt`` with the state of the run. Of a method with a ``method_card``, such as
    :class:`ClipReID`, the card also says how it is built, for :class:`Encoder`.

    ``index.json`` names the last and the best checkpoint and is itself replaced by one rename, so
    that the two names always belong together. Older checkpoints are deleted afterwards; copies of
    them, and whatever else is in the folder, stay.

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

    folder: Final[Path]

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        """Show the folder."""
        return f"TrainingCheckpoints({str(self.folder)!r})"

    def exists(self) -> bool:
        """Return whether a checkpoint was completed."""
        return is_file(self.folder / INDEX_FILE)

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
        keep: bool = False,
    ) -> Path:
        """Save a method and the state of its training run as the last checkpoint.

        Args:
            epoch: Number of the epoch, or step, for the folder's name; at least 0.
            method: The module with the weights.
            state: State that the run needs to resume: tensors, numbers, strings, and lists and
                dictionaries of these, as in the ``state_dict()`` of optimisers and generators.
            best: Whether it is also the best checkpoint so far. The first one always is.
            card: JSON-serialisable data to keep in the card. ``None`` for none.
            keep: Whether it stays, with the checkpoint that is the best by now, when later ones are
                saved; :meth:`rewind` goes back to it.

        Returns:
            The folder of the checkpoint.

        Raises:
            ValueError: If the method is wrapped for several devices, the state holds something that
                could not be loaded again, or the card is not JSON-serialisable.
            OSError: If the disk is full or fails; the previous checkpoints are unchanged.
        """
        check_integer(_OWNER, "epoch", epoch, 0)
        method = unwrapped(_OWNER, method)
        check_json(_OWNER, "card", dict(card or {}))
        packed = pack_state(state)

        index = self._read_index() if self.exists() else {}
        kept = self._read_kept() if self.exists() else {}
        final = self._unused_folder(epoch, index.values())
        temporary = self.folder / _temporary_name(final.name)

        temporary.mkdir(parents=True)
        try:
            write_weights(temporary, method, {"epoch": epoch, **(card or {})})
            write_state(temporary, packed, final.name)

            # a run that was killed before its index named the folder may have left it
            _delete_checkpoint(final)
            temporary.rename(final)
        except (OSError, ValueError):
            _delete_checkpoint(temporary)
            raise

        flush_folder(self.folder)
        best_name = final.name if best else index.get("best", final.name)
        if keep:
            kept[final.name] = best_name
        self._write_index({"last": final.name, "best": best_name}, kept)
        self._delete_older({final.name, best_name, *kept, *kept.values()}, index.values())
        return final

    def rewind(self, name: str) -> None:
        """Go back to a checkpoint that was kept: it becomes the last, with the best of its time.

        A run that is then resumed goes on as if it had been killed after that checkpoint. Later
        checkpoints are deleted.

        Args:
            name: Name of the checkpoint's folder, such as ``"epoch-0010"``.

        Raises:
            ValueError: If that checkpoint was not kept.
        """
        index, kept = self._read_index(), self._read_kept()
        if name == index["last"]:
            return
        if name not in kept:
            raise ValueError(
                f"{_OWNER}: {self.folder} keeps no checkpoint {name!r} to go back to; it keeps "
                f"{', '.join(kept) or 'none'}, and the last, {index['last']}."
            )

        # in the order in which they were saved
        names = list(kept)
        earlier = {own: kept[own] for own in names[: names.index(name) + 1]}
        self._write_index({"last": name, "best": kept[name]}, earlier)
        self._delete_older({*earlier, *earlier.values()}, index.values())

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
        method = unwrapped(_OWNER, method)
        towers = find_towers(method)
        tensors = read_checkpoint(folder, method, towers)

        if towers is not None and not is_file(folder / WEIGHTS_FILE):
            if towers is method or is_trainable(towers):
                raise ValueError(
                    f"{_OWNER}: The towers train, but {folder} has no {WEIGHTS_FILE}. It was saved "
                    "with frozen towers, or the file was deleted."
                )
            tensors |= named_tensors(method, inside_towers=True)

        if not tensors:
            raise ValueError(
                f"{_OWNER}: There are no weights in {folder}. Load another checkpoint of the run."
            )
        return load_weights(method, tensors, source_image_size=trained_image_size(folder))

    def state(self, which: Literal["last", "best"] = "last") -> dict[str, Any]:
        """Return the state of the training run after a checkpoint, with its tensors on the CPU.

        Args:
            which: The ``"last"`` or the ``"best"`` checkpoint.

        Returns:
            The state that was passed to :meth:`save`.

        Raises:
            ValueError: If there is no checkpoint, or the file is damaged, holds anything but data,
                says that it is of a later epoch than its folder, or was saved with other weights
                than those beside it.
        """
        return read_state(self.path(which))

    def _unused_folder(self, epoch: int, in_use: Collection[str]) -> Path:
        """Folder for an epoch that the index does not name, since the epoch may be saved again.

        Nor is it one that exists, unless it was written here and left by a run that was killed.
        """
        name, repeat = f"epoch-{epoch:04d}", 0
        while name in in_use or not _is_free(self.folder / name):
            repeat += 1
            name = f"epoch-{epoch:04d}-{repeat}"
        return self.folder / name

    def _read_index(self) -> dict[str, str]:
        path = self.folder / INDEX_FILE
        if not is_file(path):
            raise ValueError(
                f"{_OWNER}: There is no checkpoint in {self.folder}; no epoch was completed."
            )

        try:
            index = read_json(path)
            names = {which: str(index[which]) for which in ("last", "best")}
        except (OSError, ValueError, KeyError, TypeError):
            raise ValueError(
                f"{_OWNER}: {path} is damaged: it does not name the last and the best checkpoint. "
                "Restore the file."
            ) from None

        self._check_names(names.values())
        return names

    def _read_kept(self) -> dict[str, str]:
        """The kept checkpoints in order, each with the checkpoint that was the best by then."""
        path = self.folder / INDEX_FILE
        kept = read_json(path).get("kept", {})
        if not isinstance(kept, dict):
            raise ValueError(
                f"{_OWNER}: {path} is damaged: `kept` is no mapping. Restore the file."
            )

        names = {str(name): str(best) for name, best in kept.items()}
        self._check_names([*names, *names.values()])
        return names

    def _check_names(self, names: Collection[str]) -> None:
        """Raise ValueError if the index names something that is no checkpoint."""
        for name in names:
            if not _FOLDER.fullmatch(name):
                raise ValueError(
                    f"{_OWNER}: {self.folder / INDEX_FILE} names {name!r}, which is no checkpoint "
                    "of this folder. Restore the file."
                )

    def _write_index(self, index: Mapping[str, str], kept: Mapping[str, str]) -> None:
        content: dict[str, Any] = dict(index)
        if kept:
            content["kept"] = kept
        text = json.dumps(content, indent=2) + "\n"
        write_whole(self.folder / INDEX_FILE, text.encode())

    def _delete_older(self, kept: Collection[str], named_before: Collection[str]) -> None:
        """Delete what was written here, and is not needed any more; all else stays."""
        for path in self.folder.iterdir():
            if path.name in kept:
                continue

            if _TEMPORARY_INDEX.fullmatch(path.name):
                with suppress(OSError):
                    path.unlink()

            was_named = path.name in named_before
            if was_named or _is_own(path) or _TEMPORARY_FOLDER.fullmatch(path.name):
                _delete_checkpoint(path)


def _is_free(folder: Path) -> bool:
    """Return whether a checkpoint may get this name."""
    return _is_own(folder) or not (folder.exists() or folder.is_symlink())


def _is_own(folder: Path) -> bool:
    """Return whether a folder is a checkpoint that was written here, under this name."""
    is_named = _FOLDER.fullmatch(folder.name) is not None
    return is_named and not folder.is_symlink() and is_signed_for(folder)


def _delete_checkpoint(folder: Path) -> None:
    """Delete the files of a checkpoint, and its folder if nothing else is in it."""
    if folder.is_symlink() or not folder.is_dir():
        return

    names = [path.name for path in folder.iterdir()]
    own = [name for name in names if name in _FILES or _TEMPORARY_FILE.fullmatch(name)]

    with suppress(OSError):
        # What is left by a kill in between must be known as our own.
        if len(own) == len(names) and not _TEMPORARY_FOLDER.fullmatch(folder.name):
            folder = folder.rename(folder.with_name(_temporary_name(folder.name)))

        for name in own:
            (folder / name).unlink()
        folder.rmdir()


def _temporary_name(name: str) -> str:
    return f".{name}.{secrets.token_hex(8)}.tmp"

"""Crash-safe training checkpoints."""

import hashlib
import io
import json
import pickle
import re
import secrets
import struct
import zipfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, check_integer, fail
from clipreid_kit._files import flush_folder, write_whole
from clipreid_kit._read_files import UnusableFileError, is_file, open_file, read_json
from clipreid_kit.clip.checkpoints.json_check import check_json
from clipreid_kit.clip.checkpoints.save_load import (
    CARD_FILE,
    WEIGHTS_FILE,
    load_towers,
    save_towers,
)
from clipreid_kit.clip.checkpoints.weights_fingerprint import weights_fingerprint
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.towers.load_weights import LoadReport, load_weights
from clipreid_kit.clip.towers.read_weights import read_data, read_weights, unsafe_globals
from clipreid_kit.clip.towers.wrappers import unwrapped
from clipreid_kit.clip.tuning.lora import merge_lora, to_adapted_layout

HEADS_FILE = "heads.safetensors"
STATE_FILE = "trainer.pt"
INDEX_FILE = "index.json"

_OWNER = "TrainingCheckpoints"
_TOWERS_PREFIX = "towers."
_UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    UnusableFileError,
)

# Names of what is written here, and deleted again.
_FOLDER = re.compile(r"epoch-[0-9]{4,}(-[0-9]+)?")
_TEMPORARY_FOLDER = re.compile(r"\.epoch-[0-9]{4,}(-[0-9]+)?\.[0-9a-f]{16}\.tmp")
_FILES = frozenset({CARD_FILE, WEIGHTS_FILE, HEADS_FILE, STATE_FILE})
_TEMPORARY_INDEX = re.compile(r"\.index\.json\.[0-9a-f]{16}\.tmp")
_TEMPORARY_FILE = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")

# At the end of the state, with the name of the folder that it was written for and a digest of the
# weights beside it: a copy of the folder under another name is not one of our own, and the state of
# another checkpoint is refused.
_SIGNATURE = b"clipreid_kit checkpoint "
_LONGEST_SIGNATURE = 200


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
    :class:`ClipReID`, the card also says how it is built, for :class:`Encoder`. ``index.json``
    names the last and the best checkpoint and is itself replaced by one rename, so that the two
    names always belong together.
    Older checkpoints are deleted afterwards; copies of them, and whatever else is in the folder,
    stay.

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
        packed = _pack(state)

        index = self._read_index() if self.exists() else {}
        kept = self._read_kept() if self.exists() else {}
        final = self._unused_folder(epoch, index.values())
        temporary = self.folder / _temporary_name(final.name)

        temporary.mkdir(parents=True)
        try:
            _write_weights(temporary, method, {"epoch": epoch, **(card or {})})
            signature = _signature(final.name, _digest_of_weights(temporary))
            write_whole(temporary / STATE_FILE, _signed(packed, signature))

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
            ValueError: If there is no checkpoint, or the file is damaged, holds anything but data,
                says that it is of a later epoch than its folder, or was saved with other weights
                than those beside it.
        """
        path = self.path(which) / STATE_FILE
        try:
            state = read_data(path)
        except _UNREADABLE as error:
            raise ValueError(
                f"{_OWNER}: The state of the training run in {path} cannot be read "
                f"({type(error).__name__}). Start again in another folder."
            ) from None

        if not isinstance(state, dict):
            raise ValueError(
                f"{_OWNER}: The state of the training run in {path} cannot be read: it is a "
                f"{type(state).__name__}, not a dictionary. Start again in another folder."
            )
        _check_epoch(path, state)
        _check_signature(path)
        return state

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
                f"{_OWNER}: {path} is damaged: it does not name the last and the best checkpoint."
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
    if not _FOLDER.fullmatch(folder.name) or folder.is_symlink():
        return False

    try:
        return _read_signature(folder / STATE_FILE)[0] == folder.name
    except (OSError, UnusableFileError):
        return False


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


def _signature(name: str, digest: str) -> bytes:
    return _SIGNATURE + f"{name} {digest}".encode()


def _read_signature(state_file: Path) -> tuple[str, str]:
    """Return the name and the digest in a signature; empty where a state has none.

    Those of earlier versions have no digest.
    """
    with open_file(state_file) as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(0, size - _LONGEST_SIGNATURE))
        _, found, signature = stream.read().rpartition(_SIGNATURE)

    name, _, digest = signature.decode("ascii", "replace").partition(" ")
    return (name, digest) if found else ("", "")


def _digest_of_weights(folder: Path) -> str:
    """Return a digest of the weights of a checkpoint."""
    digest = hashlib.blake2b(digest_size=16)
    for name in (WEIGHTS_FILE, HEADS_FILE):
        if is_file(folder / name):
            with open_file(folder / name) as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _check_signature(path: Path) -> None:
    """Raise ValueError if a state was saved for another folder, or with other weights."""
    name, digest = _read_signature(path)
    folder = path.parent
    if name in ("", folder.name) and digest in ("", _digest_of_weights(folder)):
        return

    saved = "was saved with other weights"
    if name != folder.name:
        saved = f"was saved as that of {name}"
    raise ValueError(
        f"{_OWNER}: The state in {path} {saved}. One of the files was replaced since: restore it, "
        "or start again in another folder."
    )


def _signed(packed: memoryview, signature: bytes) -> bytes:
    """Add a signature to a state, as the comment of the zip archive that it is."""
    return bytes(packed[:-2]) + struct.pack("<H", len(signature)) + signature


def _check_epoch(path: Path, state: Mapping[str, Any]) -> None:
    """Raise ValueError if a state is of a later epoch than the name of its folder says."""
    epoch = state.get("epoch")
    saved = int(path.parent.name.split("-")[1])

    # The next epoch may be meant.
    if isinstance(epoch, int) and epoch > saved + 1:
        raise ValueError(
            f"{_OWNER}: The state in {path} says that it is of epoch {epoch}; it was saved as that "
            f"of {saved}. It was changed since: start again in another folder."
        )


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

    if is_file(folder / WEIGHTS_FILE):
        prefix = "" if towers is method or towers is None else _TOWERS_PREFIX
        weights = _weights_for(towers, folder)
        tensors = {prefix + name: tensor for name, tensor in weights.items()}

    if towers is not method and is_file(folder / HEADS_FILE):
        tensors |= read_weights(folder / HEADS_FILE)
    return tensors


def _weights_for(towers: ClipTowers | None, folder: Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint in the layout of towers with or without LoRA adapters."""
    weights = read_weights(folder / WEIGHTS_FILE)
    if towers is None:
        return weights

    has_adapters = any(".lora_A." in name for name in weights)
    if has_adapters and not towers.adapters:
        trained = load_towers(folder)
        merge_lora(trained)
        return {name.removeprefix("model."): value for name, value in trained.state_dict().items()}

    if towers.adapters and not has_adapters:
        return to_adapted_layout(towers.model, weights)
    return weights


def trained_image_size(folder: Path) -> tuple[int, int] | None:
    """Return the (height, width) that a checkpoint was trained at, if it has a card."""
    try:
        card = read_json(folder / CARD_FILE)
        height, width = card["image_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return int(height), int(width)


def _write_weights(folder: Path, method: nn.Module, card: Mapping[str, Any]) -> None:
    """Write the towers of a method, unless they are frozen, and the tensors outside them.

    Both files have the card.
    """
    towers = find_towers(method)
    card = {**construction_of(method, towers), **card}
    if towers is not None and (towers is method or _is_trainable(towers)):
        save_towers(towers, folder, extra=card)

    if towers is not method:
        write_heads(folder, method, card)


def write_heads(folder: Path, method: nn.Module, card: Mapping[str, Any]) -> None:
    """Write the tensors of a method outside its towers, if it has any, with the card."""
    towers = find_towers(method)
    outside = _named(method, inside_towers=False) if towers else dict(method.state_dict())
    # copies: tensors that share memory cannot be in one file
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in outside.items()}
    if copies:
        metadata = {"format": "pt", "card": json.dumps(card, allow_nan=False)}
        write_whole(folder / HEADS_FILE, save_tensors(copies, metadata=metadata))


def construction_of(method: nn.Module, towers: ClipTowers | None) -> dict[str, Any]:
    """Describe how a method is built, and which towers it needs if they are not saved with it."""
    describe = getattr(method, "method_card", None)
    if describe is None or towers is None:
        return {}

    construction: dict[str, Any] = {"method": describe()}
    if not _is_trainable(towers):
        construction["frozen_towers"] = weights_fingerprint(towers.state_dict())
    return construction


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

    unsafe = unsafe_globals(packed)
    if unsafe:
        raise fail(
            _OWNER,
            "a state of plain data",
            ", ".join(unsafe),
            "It could not be loaded again: use numbers, strings, tensors, lists and dictionaries.",
        )
    return packed.getbuffer()

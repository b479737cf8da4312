"""The file of a training run's state: plain data, signed for its folder and the weights there."""

import hashlib
import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clipreid_kit._checks import fail
from clipreid_kit._files import write_whole
from clipreid_kit._read_files import UnusableFileError, is_file, open_file
from clipreid_kit.clip.checkpoints.method_weights import HEADS_FILE
from clipreid_kit.clip.checkpoints.save_load import WEIGHTS_FILE
from clipreid_kit.clip.towers.read_weights import read_data, unsafe_globals

STATE_FILE = "trainer.pt"

_OWNER = "TrainingCheckpoints"
_UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    UnusableFileError,
)

# At the end of the state, with the name of the folder that it was written for and a digest of the
# weights beside it: a copy of the folder under another name is not one of our own, and the state of
# another checkpoint is refused.
_SIGNATURE = b"clipreid_kit checkpoint "
_LONGEST_SIGNATURE = 200


def pack_state(state: Mapping[str, Any]) -> memoryview:
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


def write_state(folder: Path, packed: memoryview, name: str) -> None:
    """Write a packed state beside the weights of a checkpoint, signed.

    Args:
        folder: Folder of the checkpoint, with its weights.
        packed: From :func:`pack_state`.
        name: Name that the folder will have.
    """
    signature = _SIGNATURE + f"{name} {_digest_of_weights(folder)}".encode()

    # As the comment of the zip archive that it is: its length, and its text.
    signed = bytes(packed[:-2]) + struct.pack("<H", len(signature)) + signature
    write_whole(folder / STATE_FILE, signed)


def read_state(folder: Path) -> dict[str, Any]:
    """Read the state of a checkpoint, with its tensors on the CPU.

    Raises:
        ValueError: If the file is damaged, holds anything but data, says that it is of a later
            epoch than its folder, or was saved with other weights than those beside it.
    """
    path = folder / STATE_FILE
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


def is_signed_for(folder: Path) -> bool:
    """Return whether the state in a folder was written for a folder of this name."""
    try:
        return _read_signature(folder / STATE_FILE)[0] == folder.name
    except (OSError, UnusableFileError):
        return False


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

"""Checkpoints that a kill at any instant leaves whole.

A checkpoint is a folder that appears by one rename, complete and flushed. ``index.json`` names the last and the best
one and is replaced by one rename, so the two always belong together. Other folders are deleted afterwards.
"""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clipreid_kit.clip import ClipTowers, load_towers, load_weights, save_towers


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file in one step: the old one stays until the new one is on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file (or lines, for a list) in one step."""
    if isinstance(content, list):
        text = "".join(json.dumps(row) + "\n" for row in content)
    else:
        text = json.dumps(content, indent=2) + "\n"
    write_whole(path, text.encode())


class Checkpoints:
    """The checkpoints of one run, in ``<run>/checkpoints``."""

    def __init__(self, run: Path) -> None:
        self.folder = run / "checkpoints"

    def save(self, epoch: int, towers: ClipTowers, state: Mapping[str, Any], *, best: bool) -> None:
        """Save the towers and the trainer's state after an epoch, as the last and perhaps as the best."""
        self.folder.mkdir(parents=True, exist_ok=True)
        final = self.folder / f"epoch-{epoch:04d}"
        temporary = self.folder / f".{final.name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        save_towers(towers, temporary, extra={"epoch": epoch})
        packed = io.BytesIO()  # torch.save on a full disk ends in an error of its own kind, a plain write does not
        torch.save(dict(state), packed)
        write_whole(temporary / "trainer.pt", packed.getbuffer())
        shutil.rmtree(final, ignore_errors=True)  # left by a run that was killed before it could point here
        temporary.rename(final)
        _flush_folder(self.folder)
        index = {"last": final.name, "best": final.name if best else self.path("best").name}
        write_json(self.folder / "index.json", index)
        for other in self.folder.iterdir():
            if other.is_dir() and other.name not in index.values():
                shutil.rmtree(other, ignore_errors=True)

    def path(self, which: str) -> Path:
        """Folder of the ``last`` or ``best`` checkpoint.

        Raises:
            ValueError: If there is none, or the pointer cannot be read.
        """
        index = self.folder / "index.json"
        if not index.is_file():
            raise ValueError(f"{index}: expected a checkpoint, got none. No epoch of this run was completed.")
        try:
            return self.folder / str(json.loads(index.read_text(encoding="utf-8"))[which])
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{index}: expected the names of the last and best checkpoint, got other text.") from None

    def load_trainer(self, towers: ClipTowers) -> dict[str, Any]:
        """Load the last checkpoint's weights into the towers and return the trainer's state.

        Raises:
            ValueError: If the checkpoint is of another architecture, or its files are damaged.
        """
        folder = self.path("last")
        load_weights(towers, folder / "model.safetensors", strict=True)
        path = folder / "trainer.pt"
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path}: expected the trainer's state, got a file that cannot be read ({type(error).__name__}). "
                "Start the run anew in another folder, or take its best weights with load_towers."
            ) from None
        return state

    def load_best(self) -> ClipTowers:
        """Towers of the best epoch."""
        return load_towers(self.path("best"))


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":  # a rename is on the disk only when its folder is
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

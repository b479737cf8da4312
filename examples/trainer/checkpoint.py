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
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from clipreid_kit.clip import load_weights, read_weights, save_towers


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

    def save(
        self, epoch: int, method: nn.Module, state: Mapping[str, Any], *, best: bool, card: dict[str, Any]
    ) -> None:
        """Save towers, what is beside them, and the trainer's state, as the last and perhaps as the best."""
        self.folder.mkdir(parents=True, exist_ok=True)
        final = self.folder / f"epoch-{epoch:04d}"
        temporary = self.folder / f".{final.name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        if any(p.requires_grad for p in method.towers.parameters()):
            save_towers(method.towers, temporary, extra={"epoch": epoch, **card})
        else:  # learned prompts alone
            temporary.mkdir()
        beside = {k: v.contiguous().cpu() for k, v in method.state_dict().items() if not k.startswith("towers.")}
        if beside:
            write_whole(temporary / "heads.safetensors", save_tensors(beside))
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

    def exists(self) -> bool:
        """Whether an epoch was completed."""
        return (self.folder / "index.json").is_file()

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

    def load(self, which: str, method: nn.Module) -> None:
        """Load the ``last`` or ``best`` weights into a method.

        Raises:
            ValueError: If the checkpoint is of another architecture, or its files are damaged.
        """
        folder = self.path(which)
        if (folder / "model.safetensors").is_file():
            load_weights(method.towers, folder / "model.safetensors", strict=True)
        heads = _heads(folder)
        own = {name for name in method.state_dict() if not name.startswith("towers.")}
        if own != set(heads):
            raise ValueError(f"{folder}: expected {len(own)} tensors beside the towers, got {len(heads)} others.")
        method.load_state_dict(heads, strict=False)

    def trainer_state(self) -> dict[str, Any]:
        """The trainer's state after the last epoch.

        Raises:
            ValueError: If its file is damaged.
        """
        path = self.path("last") / "trainer.pt"
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path}: expected the trainer's state, got a file that cannot be read ({type(error).__name__}). "
                "Start the run anew in another folder, or begin another one with init_from."
            ) from None
        return state


def warm_start(method: nn.Module, source: str) -> dict[str, Any]:
    """Load what fits from the best checkpoint of another run, and report it; a classifier of others is dropped.

    Raises:
        ValueError: If there is no checkpoint.
    """
    run = Path(source)
    folder = Checkpoints(run).path("best") if (run / "checkpoints").is_dir() else run
    if not (folder / "model.safetensors").is_file():
        raise ValueError(f"init_from: expected a run or a checkpoint with model.safetensors, got {source}.")
    towers = getattr(method, "towers", method)  # towers alone, to be tested as they are
    report = load_weights(towers, folder / "model.safetensors", strict=False)
    heads, own = _heads(folder), method.state_dict()
    fits = {name: value for name, value in heads.items() if name in own and own[name].shape == value.shape}
    method.load_state_dict(fits, strict=False)
    dropped = sorted(set(heads) - set(fits))
    return {"from": str(folder), "towers": report.summary(), "heads": sorted(fits), "dropped": dropped}


def _heads(folder: Path) -> dict[str, Tensor]:
    path = folder / "heads.safetensors"
    return read_weights(path) if path.is_file() else {}


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":  # a rename is on the disk only when its folder is
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

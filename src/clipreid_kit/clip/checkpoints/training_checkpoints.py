"""Checkpoints of a training that a kill at any instant leaves whole."""

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, check_integer, fail
from clipreid_kit._files import flush_folder, write_whole
from clipreid_kit.clip.checkpoints.save_load import CARD_FILE, WEIGHTS_FILE, save_towers
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.towers.load_weights import LoadReport, load_weights, read_weights

HEADS_FILE = "heads.safetensors"
STATE_FILE = "trainer.pt"
INDEX_FILE = "index.json"
_OWNER = "TrainingCheckpoints"
_PREFIX = "towers."


class TrainingCheckpoints:
    """The last and the best checkpoint of a training, in a folder; whole at any instant.

    Use it in any training loop that has to survive a kill, a full disk or a loss of power::

        checkpoints = TrainingCheckpoints("run/checkpoints")
        start = 0
        if checkpoints.exists():  # go on
            checkpoints.load("last", method)
            state = checkpoints.state()
            optimizer.load_state_dict(state["optimizer"])
            start = state["epoch"]
        for epoch in range(start + 1, 11):
            ...
            checkpoints.save(epoch, method, {"epoch": epoch, "optimizer": optimizer.state_dict()}, best=improved)
        checkpoints.load("best", method)

    A checkpoint is a folder that appears by one rename, complete and on the disk: the towers as :func:`save_towers`
    writes them, ``heads.safetensors`` with all that is beside them, and ``trainer.pt`` with the state of the training.
    ``index.json`` names the last and the best one and is replaced by one rename, so that the two always belong
    together. Older ones are deleted afterwards.

    The method is any module, as it is and not wrapped by DDP. Where it holds :class:`ClipTowers` under the name
    ``towers``, or is one, these are saved apart; towers of which nothing trains are left out. All tensors of other
    modules are in ``heads.safetensors``. Of several processes, one saves.

    Args:
        folder: Where the checkpoints are; made at the first save.

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

    def exists(self) -> bool:
        """Whether a checkpoint was completed."""
        return (self.folder / INDEX_FILE).is_file()

    def path(self, which: Literal["last", "best"]) -> Path:
        """Folder of a checkpoint.

        Args:
            which: The ``"last"`` or the ``"best"`` one.

        Returns:
            The folder.

        Raises:
            ValueError: If there is none, or the index cannot be read.
        """
        check_choice(_OWNER, "which", which, ("last", "best"))
        return self.folder / self._index()[which]

    def save(
        self,
        epoch: int,
        method: nn.Module,
        state: Mapping[str, Any],
        *,
        best: bool,
        card: Mapping[str, Any] | None = None,
    ) -> Path:
        """Save a method and the state of its training as the last checkpoint, and perhaps as the best.

        Args:
            epoch: Number of the epoch, or step, for the folder's name; at least 0.
            method: Where the weights are.
            state: What the training needs to go on: tensors, numbers, texts, and lists and dictionaries of these, as
                ``state_dict()`` of optimisers and generators gives them.
            best: Whether it is the best so far. The first one always is.
            card: Anything that JSON can hold, to be kept in the card of the towers. ``None`` for nothing.

        Returns:
            The folder of the checkpoint.

        Raises:
            ValueError: If the state holds something that would not be loaded again, or the card is not JSON.
            OSError: If the disk is full or fails; the previous checkpoints are as they were.
        """
        check_integer(_OWNER, "epoch", epoch, 0)
        packed = _packed(state)
        kept = self._index() if self.exists() else {}
        final, again = self.folder / f"epoch-{epoch:04d}", 0
        while final.name in kept.values():  # saved twice: the index still names the first
            again += 1
            final = self.folder / f"epoch-{epoch:04d}-{again}"
        temporary = self.folder / f".{final.name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            towers, beside = split_method(method)
            if towers is not None and (towers is method or _trains(towers)):
                save_towers(towers, temporary, extra={"epoch": epoch, **(card or {})})
            if beside:
                write_whole(temporary / HEADS_FILE, save_tensors(beside))
            write_whole(temporary / STATE_FILE, packed)
            shutil.rmtree(
                final, ignore_errors=True
            )  # left by a run that was killed before the index named it
            temporary.rename(final)
        except (OSError, ValueError):
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        flush_folder(self.folder)
        index = {"last": final.name, "best": final.name if best else kept.get("best", final.name)}
        write_whole(self.folder / INDEX_FILE, (json.dumps(index, indent=2) + "\n").encode())
        for other in self.folder.iterdir():
            ours = other.name.startswith(("epoch-", ".epoch-")) and other.is_dir()
            if ours and other.name not in index.values():
                shutil.rmtree(other, ignore_errors=True)
        return final

    def load(self, which: Literal["last", "best"], method: nn.Module) -> LoadReport:
        """Load the weights of a checkpoint; the method is changed only if all of them fit.

        Args:
            which: The ``"last"`` or the ``"best"`` one.
            method: As it was saved.

        Returns:
            What was loaded.

        Raises:
            ValueError: If there is no checkpoint, it is of another method, or its files are damaged.
        """
        folder = self.path(which)
        towers, _ = split_method(method)
        tensors = tensors_of_checkpoint(folder, method, towers)
        if towers is not None and not (folder / WEIGHTS_FILE).is_file():
            if towers is method or _trains(towers):
                remedy = "It was saved with frozen towers, or the file was deleted."
                raise fail(
                    _OWNER, f"{WEIGHTS_FILE} in {folder}, for towers that train", "none", remedy
                )
            tensors |= {
                name: value
                for name, value in method.state_dict().items()
                if name.startswith(_PREFIX)
            }
        if not tensors:
            raise fail(_OWNER, f"weights in {folder}", "none")
        return load_weights(method, tensors, source_image_size=trained_image_size(folder))

    def state(self, which: Literal["last", "best"] = "last") -> dict[str, Any]:
        """The state of the training after a checkpoint, its tensors on the CPU.

        Args:
            which: The ``"last"`` or the ``"best"`` one.

        Returns:
            What was given to :meth:`save`.

        Raises:
            ValueError: If there is no checkpoint, or the file is damaged or holds anything but data.
        """
        path = self.path(which) / STATE_FILE
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        except (
            OSError,
            RuntimeError,
            EOFError,
            pickle.UnpicklingError,
            zipfile.BadZipFile,
        ) as error:
            got = f"a file that cannot be read ({type(error).__name__})"
            raise fail(
                _OWNER, f"the state of a training in {path}", got, "Begin anew in another folder."
            ) from None
        return state

    def _index(self) -> dict[str, str]:
        path = self.folder / INDEX_FILE
        if not path.is_file():
            raise fail(_OWNER, f"a checkpoint in {self.folder}", "none", "No epoch was completed.")
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            return {which: str(index[which]) for which in ("last", "best")}
        except (ValueError, KeyError, TypeError):
            raise fail(
                _OWNER, f"the names of the last and best checkpoint in {path}", "other text"
            ) from None


def split_method(method: nn.Module) -> tuple[ClipTowers | None, dict[str, Tensor]]:
    """The towers, if there are any, and all tensors beside them."""
    towers = method if isinstance(method, ClipTowers) else getattr(method, "towers", None)
    if not isinstance(towers, ClipTowers):
        towers = None
    if towers is method:
        return towers, {}
    # copies: tensors that share memory cannot be in one file
    return towers, {
        name: value.detach().cpu().clone().contiguous()
        for name, value in method.state_dict().items()
        if towers is None or not name.startswith(_PREFIX)
    }


def _trains(towers: ClipTowers) -> bool:
    return any(parameter.requires_grad for parameter in towers.parameters())


def tensors_of_checkpoint(
    folder: Path, method: nn.Module, towers: ClipTowers | None
) -> dict[str, Tensor]:
    """All tensors of a checkpoint that are this method's matter, by its names."""
    found: dict[str, Tensor] = {}
    if (folder / WEIGHTS_FILE).is_file():
        prefix = "" if towers is method or towers is None else _PREFIX
        found = {
            prefix + name: value for name, value in read_weights(folder / WEIGHTS_FILE).items()
        }
    if towers is not method and (folder / HEADS_FILE).is_file():
        found |= read_weights(folder / HEADS_FILE)
    return found


def trained_image_size(folder: Path) -> tuple[int, int] | None:
    """Height and width that a checkpoint was trained at, if its card tells them."""
    try:
        height, width = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))["image_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return int(height), int(width)


def _packed(state: Mapping[str, Any]) -> memoryview:
    """The state as bytes; in memory, because torch.save to a full disk ends in an error of its own kind."""
    packed = io.BytesIO()
    torch.save(dict(state), packed)
    packed.seek(0)
    strange = torch.serialization.get_unsafe_globals_in_checkpoint(packed)
    if strange:
        remedy = (
            "It could not be loaded again: give numbers, texts, tensors, lists and dictionaries."
        )
        raise fail(_OWNER, "a state of plain data", ", ".join(strange), remedy)
    return packed.getbuffer()

"""Initialise a run from an earlier one: its weights, and the data kept in their card."""

from os import PathLike
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from clipreid_kit._checks import fail
from clipreid_kit._read_files import is_file, is_folder, parse_json, read_json
from clipreid_kit.clip.checkpoints.method_weights import (
    HEADS_FILE,
    find_towers,
    read_checkpoint,
    trained_image_size,
)
from clipreid_kit.clip.checkpoints.save_load import CARD_FILE, WEIGHTS_FILE
from clipreid_kit.clip.checkpoints.training_checkpoints import TrainingCheckpoints
from clipreid_kit.clip.towers.load_weights import LoadReport, load_weights
from clipreid_kit.clip.towers.read_weights import read_metadata
from clipreid_kit.clip.towers.wrappers import unwrapped


def warm_start(method: nn.Module, source: str | PathLike[str]) -> LoadReport:
    """Load the tensors that fit from a checkpoint of another run, and report the others.

    Use it to start from the weights of an earlier training run with other identities, heads or
    image size: a classifier for other identities keeps its values, and position tables are
    resized.

    Args:
        method: Any module, with or without :class:`ClipTowers` under the name ``towers``; or
            towers.
        source: A folder of :class:`TrainingCheckpoints`, of which the best checkpoint is loaded; a
            folder that contains one under the name ``checkpoints``; a single checkpoint; or a
            folder written by :func:`save_towers`.

    Returns:
        Report of all tensors, by the names of ``method``.

    Raises:
        ValueError: If there is no checkpoint, its files are damaged, or no tensor fits.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = TrainingCheckpoints(folder).save(1, nn.Linear(2, 2), {}, best=True)
        ...     report = warm_start(nn.Linear(2, 2, bias=False), folder)
        >>> report.loaded, report.unexpected
        (('weight',), ('bias',))
    """
    method = unwrapped("warm_start", method)
    folder = _checkpoint_folder(source)
    tensors = read_checkpoint(folder, method, find_towers(method))
    if not tensors:
        expected = f"a training run or a checkpoint with {WEIGHTS_FILE} or {HEADS_FILE}"
        raise fail("warm_start", expected, f"{source}")

    image_size = trained_image_size(folder)
    return load_weights(method, tensors, strict=False, source_image_size=image_size)


def read_card(source: str | PathLike[str]) -> dict[str, Any]:
    """Read the data in the card of a checkpoint: the epoch, and the ``card`` passed to ``save``.

    Of :class:`ClipBaseline`, :class:`ClipReID` and :class:`PromptSG` there is also ``method``, from
    which :func:`build_method` builds the method again; with frozen towers, ``frozen_towers`` is
    the fingerprint of those that it needs.

    Args:
        source: As for :func:`warm_start`.

    Returns:
        The data; empty for a checkpoint without any, such as one with frozen towers of an earlier
        version.

    Raises:
        ValueError: If there is no such folder, or the card is damaged.

    Example:
        >>> import tempfile
        >>> from clipreid_kit.clip import ClipTowers
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(32, 32))
        >>> card = {"identities": ["rex", "tom"]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = TrainingCheckpoints(folder).save(1, towers, {}, best=True, card=card)
        ...     read_card(folder)
        {'epoch': 1, 'identities': ['rex', 'tom']}
    """
    folder = _checkpoint_folder(source)
    if not is_folder(folder):
        raise fail("read_card", "a training run or a checkpoint", f"{source}")

    path = folder / CARD_FILE
    if not is_file(path):
        return _card_in_heads(folder / HEADS_FILE)

    try:
        card: dict[str, Any] = read_json(path)
        return dict(card.get("extra", {}))
    except (OSError, ValueError, AttributeError, TypeError):
        raise ValueError(
            f"read_card: The card {path} is damaged. Restore the checkpoint from a copy."
        ) from None


def _card_in_heads(path: Path) -> dict[str, Any]:
    """Read the card beside the heads of frozen towers; empty without one."""
    if not path.is_file():
        return {}

    try:
        return dict(parse_json(read_metadata(path).get("card", "{}")))
    except (OSError, ValueError, TypeError, SafetensorError):
        raise ValueError(
            f"read_card: The card in {path} is damaged. Restore the checkpoint from a copy."
        ) from None


def _checkpoint_folder(source: str | PathLike[str]) -> Path:
    """The best checkpoint of a training run, or the folder itself."""
    folder = Path(source)
    for candidate in (folder, folder / "checkpoints"):
        checkpoints = TrainingCheckpoints(candidate)
        if checkpoints.exists():
            return checkpoints.path("best")
    return folder

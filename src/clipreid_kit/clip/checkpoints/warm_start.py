"""What a training takes over from an earlier one: its weights, and the card beside them."""

import json
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from clipreid_kit._checks import fail
from clipreid_kit.clip.checkpoints.save_load import CARD_FILE, WEIGHTS_FILE
from clipreid_kit.clip.checkpoints.training_checkpoints import (
    HEADS_FILE,
    TrainingCheckpoints,
    split_method,
    tensors_of_checkpoint,
    trained_image_size,
)
from clipreid_kit.clip.towers.load_weights import LoadReport, load_weights


def warm_start(method: nn.Module, source: str | PathLike[str]) -> LoadReport:
    """Load what fits from a checkpoint of another training, and report what did not.

    Use it to begin a training with the weights of an earlier one, with other identities, heads or image size: a
    classifier of other identities is left as it is, position tables are resized.

    Args:
        method: Any module, with or without :class:`ClipTowers` under the name ``towers``; or towers alone.
        source: A folder of :class:`TrainingCheckpoints`, whose best one is taken; a folder with such a one in it,
            named ``checkpoints``; a single checkpoint; or a folder of :func:`save_towers`.

    Returns:
        What went where, by the names of ``method``.

    Raises:
        ValueError: If there is no checkpoint, its files are damaged, or nothing in it fits.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = TrainingCheckpoints(folder).save(1, nn.Linear(2, 2), {}, best=True)
        ...     warm_start(nn.Linear(2, 2, bias=False), folder)
        LoadReport(loaded=('weight',), missing=(), unexpected=('bias',), resized=(), mismatched=())
    """
    folder = _checkpoint(source)
    found = tensors_of_checkpoint(folder, method, split_method(method)[0])
    if not found:
        raise fail(
            "warm_start",
            f"a training or a checkpoint with {WEIGHTS_FILE} or {HEADS_FILE}",
            f"{source}",
        )
    return load_weights(method, found, strict=False, source_image_size=trained_image_size(folder))


def read_card(source: str | PathLike[str]) -> dict[str, Any]:
    """Read what was kept in the card of a checkpoint: the epoch, and what was given to ``save`` as ``card``.

    Args:
        source: As for :func:`warm_start`.

    Returns:
        What was kept; nothing where no towers were saved, as then there is no card.

    Raises:
        ValueError: If there is no such folder, or the card is damaged.

    Example:
        >>> import tempfile
        >>> from clipreid_kit.clip import ClipTowers
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(32, 32))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = TrainingCheckpoints(folder).save(1, towers, {}, best=True, card={"identities": ["rex", "tom"]})
        ...     read_card(folder)
        {'epoch': 1, 'identities': ['rex', 'tom']}
    """
    folder = _checkpoint(source)
    path = folder / CARD_FILE
    if not folder.is_dir():
        raise fail("read_card", "a training or a checkpoint", f"{source}")
    if not path.is_file():
        return {}
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return dict(card.get("extra", {}))
    except (ValueError, AttributeError, TypeError):
        raise fail("read_card", f"a card in {path}", "other text") from None


def _checkpoint(source: str | PathLike[str]) -> Path:
    """The best checkpoint of a training, or the folder itself."""
    folder = Path(source)
    for place in (folder, folder / "checkpoints"):
        if TrainingCheckpoints(place).exists():
            return TrainingCheckpoints(place).path("best")
    return folder

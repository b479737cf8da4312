"""The weights of a method in the folder of a checkpoint: its towers, and all other tensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from clipreid_kit._files import write_whole
from clipreid_kit._read_files import is_file, read_json
from clipreid_kit.clip.checkpoints.save_load import (
    CARD_FILE,
    WEIGHTS_FILE,
    load_towers,
    save_towers,
)
from clipreid_kit.clip.checkpoints.weights_fingerprint import weights_fingerprint
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.towers.read_weights import read_weights
from clipreid_kit.clip.tuning.lora import merge_lora, to_adapted_layout

HEADS_FILE = "heads.safetensors"

_TOWERS_PREFIX = "towers."


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


def write_weights(folder: Path, method: nn.Module, card: Mapping[str, Any]) -> None:
    """Write the towers of a method, unless they are frozen, and the tensors outside them.

    Both files have the card.
    """
    towers = find_towers(method)
    card = {**construction_of(method, towers), **card}
    if towers is not None and (towers is method or is_trainable(towers)):
        save_towers(towers, folder, extra=card)

    if towers is not method:
        write_heads(folder, method, card)


def write_heads(folder: Path, method: nn.Module, card: Mapping[str, Any]) -> None:
    """Write the tensors of a method outside its towers, if it has any, with the card."""
    towers = find_towers(method)
    outside = named_tensors(method, inside_towers=False) if towers else dict(method.state_dict())
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
    if not is_trainable(towers):
        construction["frozen_towers"] = weights_fingerprint(towers.state_dict())
    return construction


def named_tensors(method: nn.Module, *, inside_towers: bool) -> dict[str, Tensor]:
    """Tensors of a method inside or outside its towers, by their names."""
    return {
        name: tensor
        for name, tensor in method.state_dict().items()
        if name.startswith(_TOWERS_PREFIX) == inside_towers
    }


def is_trainable(towers: ClipTowers) -> bool:
    """Return whether any parameter of the towers trains."""
    return any(parameter.requires_grad for parameter in towers.parameters())

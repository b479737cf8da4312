"""Save LoRA adapters alone, and add them to towers again."""

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from clipreid_kit._checks import fail
from clipreid_kit._files import write_whole
from clipreid_kit._read_files import parse_json
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers
from clipreid_kit.clip.towers.load_weights import LoadReport, load_weights
from clipreid_kit.clip.towers.read_weights import read_metadata, read_weights
from clipreid_kit.clip.tuning.lora import add_lora, merge_lora

_FORMAT = "clipreid_kit.adapters/1"


def save_adapters(towers: ClipTowers, path: str | PathLike[str]) -> None:
    """Save the LoRA adapters of towers, and whatever else of the towers trains, in one file.

    Use it to keep many fine-tuned versions of one model: a file holds a few hundredths of the
    weights. :func:`load_adapters` needs towers with the weights that training started from.

    Args:
        towers: Towers with adapters. All parameters that train are saved: with ``freeze(towers,
            "text")``, a text tower without adapters is not among them.
        path: File to write, a ``.safetensors``; an existing one is replaced in one step.

    Raises:
        ValueError: If the towers have no adapters, or the path has another suffix.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit")
        >>> layers = add_lora(towers, rank=4)  # doctest: +SKIP
        >>> save_adapters(towers, "shoes.safetensors")  # doctest: +SKIP
    """
    owner = "save_adapters"
    check_towers(owner, towers)
    if not towers.adapters:
        raise ValueError(f"{owner}: The towers have no adapters. Add them with add_lora.")

    file = Path(path)
    if file.suffix != ".safetensors":
        raise fail(owner, "a path that ends in .safetensors", f"{file}")

    tensors = {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in towers.named_parameters()
        if parameter.requires_grad or ".lora_" in name
    }
    card = {"format": _FORMAT, "name": towers.name, "adapters": towers.adapters}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, save(tensors, metadata={"format": "pt", "card": json.dumps(card)}))


def load_adapters(towers: ClipTowers, path: str | PathLike[str]) -> LoadReport:
    """Add the LoRA adapters of a file to towers that hold the weights they were trained on.

    Args:
        towers: The towers, without adapters; changed in place: the adapters train, and the other
            weights of an adapted tower are frozen. If the file does not fit, they are unchanged.
        path: A file of :func:`save_adapters`.

    Returns:
        Report of the loaded tensors; those of the model itself are under ``missing``.

    Raises:
        ValueError: If the file is missing, damaged or of another model, the towers have adapters
            already, or peft is not installed.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit")
        >>> report = load_adapters(towers, "shoes.safetensors")  # doctest: +SKIP
    """
    owner = "load_adapters"
    check_towers(owner, towers)
    if towers.adapters:
        raise ValueError(f"{owner}: The towers have adapters already. Call merge_lora first.")

    file = Path(path)
    tensors = read_weights(file)
    card = _read_card(owner, file)
    if card["name"] != towers.name:
        raise fail(owner, f"adapters of {towers.name}", f"those of {card['name']} in {file}")

    trainable = [name for name, value in towers.named_parameters() if value.requires_grad]
    try:
        for tower, settings in card["adapters"].items():
            add_lora(towers, tower=tower, **settings)
        _check_shapes(owner, towers.state_dict(), tensors, file)
    except (ValueError, TypeError) as error:
        merge_lora(towers)  # adapters have no effect yet, so that the weights are as before
        for name, parameter in towers.named_parameters():
            parameter.requires_grad = name in trainable
        if isinstance(error, ValueError):
            raise
        raise ValueError(
            f"{owner}: The card of {file} is damaged ({error}). Save the adapters again."
        ) from None

    return load_weights(towers, tensors, strict=False)


def _read_card(owner: str, file: Path) -> dict[str, Any]:
    """Read the settings of the adapters in a file."""
    try:
        card: object = parse_json(read_metadata(file).get("card", "null").encode())
    except (SafetensorError, OSError, ValueError):
        card = None

    if not isinstance(card, dict) or card.get("format") != _FORMAT:
        raise fail(owner, "a file of save_adapters", f"{file}, which has no card of adapters")
    if not isinstance(card.get("adapters"), dict) or "name" not in card:
        raise ValueError(f"{owner}: The card of {file} is damaged. Save the adapters again.")
    return card


def _check_shapes(
    owner: str, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], file: Path
) -> None:
    """Raise ValueError if a tensor of a file does not fit the towers."""
    misfits = [
        name
        for name, tensor in tensors.items()
        if name not in own or own[name].shape != tensor.shape
    ]
    if misfits:
        raise ValueError(
            f"{owner}: {len(misfits)} tensors of {file} do not fit the towers, the first "
            f"{misfits[0]}. Build the towers that the adapters were trained on."
        )

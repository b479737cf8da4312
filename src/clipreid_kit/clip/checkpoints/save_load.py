"""Save towers to a folder and load them: weights as safetensors, with a JSON card."""

import copy
import json
import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import nn

from clipreid_kit import __version__
from clipreid_kit._checks import fail
from clipreid_kit._files import write_whole
from clipreid_kit._read_files import (
    describe_error,
    exists,
    is_file,
    is_folder,
    parse_json,
    read_bytes,
)
from clipreid_kit.clip.checkpoints.json_check import check_json
from clipreid_kit.clip.towers.architecture_check import check_architecture
from clipreid_kit.clip.towers.build import build_camera_embedding
from clipreid_kit.clip.towers.camera_embedding import CameraEmbedding
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers
from clipreid_kit.clip.towers.geometry import check_geometry, geometry_of
from clipreid_kit.clip.towers.load_weights import load_weights
from clipreid_kit.clip.towers.model_catalogue import build_model
from clipreid_kit.clip.towers.normalisation import Colour
from clipreid_kit.clip.towers.patch_masking import PatchMasking
from clipreid_kit.clip.towers.read_weights import read_metadata, read_weights
from clipreid_kit.clip.towers.set_geometry import set_geometry
from clipreid_kit.clip.towers.wrappers import unwrapped
from clipreid_kit.clip.tuning.lora import add_lora, merge_lora
from clipreid_kit.clip.tuning.mask_patches import mask_patches

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "card.json"

_FORMAT = "clipreid_kit.towers/1"
_DTYPES = ("float32", "float16", "bfloat16", "float64")
_CARD_TYPES: dict[str, type] = {
    "name": str,
    "dtype": str,
    "embed_dim": int,
    "num_parameters": int,
    "image_size": list,
    "image_mean": list,
    "image_std": list,
    "config": dict,
    "versions": dict,
    "extra": dict,
}


def save_towers(
    towers: ClipTowers,
    folder: str | PathLike[str],
    *,
    extra: Mapping[str, Any] | None = None,
    merge_adapters: bool = False,
) -> None:
    """Save towers as ``model.safetensors`` and ``card.json``.

    Use it to keep or share a fine-tuned model. The weights have open_clip's names, so that
    open_clip loads the file too, if the image size is the native one.

    Each file is written under a temporary name, flushed to the disk and renamed. The card is also
    stored inside the weights, from where :func:`load_towers` takes it: a save that is interrupted
    between the two renames leaves either the previous towers or the new ones, never a mixture.

    Args:
        towers: The towers to save.
        folder: Folder to save to; created if necessary. Towers saved there earlier are replaced.
        extra: JSON-serialisable data to keep in the card. ``None`` for none.
        merge_adapters: Whether to save LoRA adapters merged into the weights, which open_clip
            loads too. ``False`` saves them beside the weights, as they are; loading then needs
            peft. The towers themselves are left as they are.

    Raises:
        ValueError: If ``extra`` is not JSON-serialisable, ``folder`` is a file, or the towers are
            wrapped for several devices.

    Example:
        >>> import tempfile
        >>> towers = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(128, 64))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_towers(towers, folder, extra={"epoch": 3})
        ...     load_towers(folder).image_size
        (128, 64)
    """
    check_towers("save_towers", towers)
    towers = unwrapped("save_towers", towers)
    if merge_adapters and towers.adapters:
        towers = copy.deepcopy(towers)
        merge_lora(towers)

    folder = Path(folder)
    if exists(folder) and not is_folder(folder):
        raise fail("save_towers", "a folder", f"the file {folder}")

    extra = dict(extra or {})
    check_json("save_towers", "extra", extra)
    card = json.dumps(_card(towers, extra), indent=2, allow_nan=False) + "\n"

    tensors = {
        name.removeprefix("model."): tensor.detach().cpu().contiguous()
        for name, tensor in towers.state_dict().items()
    }

    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / WEIGHTS_FILE, save(tensors, metadata={"format": "pt", "card": card}))
    write_whole(folder / CARD_FILE, card.encode())


def load_towers(folder: str | PathLike[str]) -> ClipTowers:
    """Load towers saved by :func:`save_towers`, bit for bit.

    Use it to continue with a fine-tuned model; nothing is downloaded.

    Args:
        folder: The folder with ``model.safetensors`` and ``card.json``.

    Returns:
        The towers on the CPU, in the dtype that they were saved in and in training mode; with
        their LoRA adapters, if they were saved unmerged.

    Raises:
        ValueError: If a file is missing, truncated or damaged, the weights are not those of the
            card, or adapters need peft, which is not installed.
    """
    folder = Path(folder)
    _check_files(folder)
    card = _parse_card(folder / CARD_FILE, _read_card(folder / CARD_FILE))
    tensors = read_weights(folder / WEIGHTS_FILE)
    card = _card_in_weights(folder / WEIGHTS_FILE) or card
    check_architecture(card["name"], card["config"], tensors)

    saved = card["geometry"]
    geometry = check_geometry(
        card["image_size"],
        saved.get("patch_stride"),
        saved.get("last_stride"),
        saved.get("position_resize", "bicubic"),
    )

    model: Any = build_model(card["config"], seed=0)
    set_geometry(model.visual, geometry)
    cameras = saved.get("cameras")

    towers = ClipTowers(
        model,
        name=card["name"],
        config=card["config"],
        image_mean=_colour(folder, card, "image_mean"),
        image_std=_colour(folder, card, "image_std"),
        position_resize=geometry.position_resize,
        camera_embedding=_camera_embedding(model.visual, cameras) if cameras else None,
    )
    _add_adapters(towers, card.get("adapters", {}), folder)
    _add_patch_masking(towers, card.get("patch_masking"), folder)
    towers.to(getattr(torch, card["dtype"]))
    towers.load_report = load_weights(towers, tensors, source_image_size=geometry.image_size)
    return towers


def _card(towers: ClipTowers, extra: Mapping[str, Any]) -> dict[str, Any]:
    versions = {
        "clipreid_kit": __version__,
        "open_clip": open_clip.__version__,
        "torch": str(torch.__version__),
    }

    return {
        "format": _FORMAT,
        "name": towers.name,
        "config": towers.config,
        "image_size": list(towers.image_size),
        "geometry": _geometry_card(towers),
        "adapters": towers.adapters,
        "patch_masking": _masking_card(towers.patch_masking),
        "embed_dim": towers.embed_dim,
        "image_mean": list(towers.image_mean),
        "image_std": list(towers.image_std),
        "dtype": str(next(towers.image_parameters()).dtype).removeprefix("torch."),
        "num_parameters": sum(parameter.numel() for parameter in towers.parameters()),
        "versions": versions,
        "extra": extra,
    }


def _geometry_card(towers: ClipTowers) -> dict[str, Any]:
    geometry = geometry_of(towers.model.visual)
    return {
        "patch_stride": geometry.patch_stride,
        "last_stride": geometry.last_stride,
        "position_resize": towers.position_resize,
        "cameras": _camera_card(towers.camera_embedding),
    }


def _camera_card(cameras: CameraEmbedding | None) -> dict[str, Any] | None:
    if cameras is None:
        return None

    return {
        "num_cameras": cameras.num_cameras,
        "num_views": cameras.num_views,
        "scale": cameras.scale,
        "tokens": cameras.tokens,
    }


def _camera_embedding(visual: nn.Module, card: Mapping[str, Any]) -> CameraEmbedding:
    cameras = build_camera_embedding(visual, card["num_cameras"], card["num_views"])
    cameras.scale = card["scale"]
    cameras.tokens = card["tokens"]
    return cameras


def _add_adapters(towers: ClipTowers, adapters: object, folder: Path) -> None:
    """Add the adapters that the card of a folder lists."""
    if not isinstance(adapters, dict):
        raise fail("load_towers", f"adapters as a mapping in the card of {folder}", repr(adapters))

    try:
        for tower, settings in adapters.items():
            add_lora(towers, tower=tower, **settings)
    except TypeError:
        raise fail(
            "load_towers",
            f"rank, alpha, dropout and parts of the adapters in the card of {folder}",
            repr(adapters),
        ) from None


def _masking_card(masking: PatchMasking | None) -> dict[str, Any] | None:
    return None if masking is None else {"share": masking.share, "kind": masking.kind}


def _add_patch_masking(towers: ClipTowers, masking: object, folder: Path) -> None:
    """Mask patches as the card of a folder says."""
    if masking is None:
        return
    if not isinstance(masking, dict) or set(masking) != {"share", "kind"}:
        raise fail(
            "load_towers", f"share and kind of patch_masking in the card of {folder}", repr(masking)
        )
    mask_patches(towers, masking["share"], masking["kind"])


def _check_files(folder: Path) -> None:
    for name in (CARD_FILE, WEIGHTS_FILE):
        if not is_file(folder / name):
            raise fail(
                "load_towers",
                f"a folder with {CARD_FILE} and {WEIGHTS_FILE}",
                f"{folder} without {name}",
                "Pass a folder written by save_towers.",
            )


def _card_in_weights(path: Path) -> dict[str, Any] | None:
    """Read the card stored inside the weights, which a save replaces in one step with them."""
    try:
        text = read_metadata(path).get("card")
    except (SafetensorError, OSError) as error:
        raise fail("load_towers", f"{path} as a safetensors file", f"{error}") from None

    return None if text is None else _parse_card(path, text.encode())


def _read_card(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"load_towers: cannot read {path}: {describe_error(error)}.") from error


def _parse_card(path: Path, text: bytes) -> dict[str, Any]:
    owner = "load_towers"
    try:
        card: object = parse_json(text)
    except ValueError as error:
        remedy = "Save the towers again."
        raise fail(owner, f"a card in JSON in {path}", f"{error}", remedy) from None

    found = card.get("format") if isinstance(card, dict) else "no JSON object"
    if not isinstance(card, dict) or found != _FORMAT:
        raise fail(owner, f"a card of the format {_FORMAT} in {path}", repr(found))

    invalid = [key for key, kind in _CARD_TYPES.items() if not isinstance(card.get(key), kind)]
    if invalid:
        raise ValueError(
            f"{owner}: The card in {path} has no valid {', '.join(invalid)}. Save the towers again."
        )

    card.setdefault("geometry", {})  # cards of version 0.1 have none
    if not isinstance(card["geometry"], dict):
        raise fail(owner, f"geometry as a mapping in the card of {path}", repr(card["geometry"]))

    if card["dtype"] not in _DTYPES:
        raise fail(owner, f"the dtype of weights in {path}", repr(card["dtype"]))
    return card


def _colour(folder: Path, card: Mapping[str, Any], key: str) -> Colour:
    values = card[key]
    finite = [isinstance(value, int | float) and math.isfinite(value) for value in values]
    if finite != [True, True, True]:
        raise fail("load_towers", f"{key} as three numbers in the card of {folder}", values)
    return float(values[0]), float(values[1]), float(values[2])

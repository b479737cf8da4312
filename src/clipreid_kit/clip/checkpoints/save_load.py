"""Towers in a folder: weights as safetensors, and a card that says what they are."""

import json
import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from clipreid_kit import __version__
from clipreid_kit._checks import fail
from clipreid_kit._files import write_whole
from clipreid_kit.clip.towers.architecture_check import check_architecture
from clipreid_kit.clip.towers.build import build_camera_embedding
from clipreid_kit.clip.towers.camera_embedding import CameraEmbedding
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.towers.geometry import set_geometry
from clipreid_kit.clip.towers.grid import check_geometry, geometry_of
from clipreid_kit.clip.towers.load_weights import load_weights, read_weights
from clipreid_kit.clip.towers.model_catalogue import build_model

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "card.json"
_FORMAT = "clipreid_kit.towers/1"
_TEXTS, _NUMBERS = ("name", "dtype"), ("embed_dim", "num_parameters")
_LISTS, _MAPPINGS = ("image_size", "image_mean", "image_std"), ("config", "versions", "extra")


def save_towers(
    towers: ClipTowers, folder: str | PathLike[str], *, extra: Mapping[str, Any] | None = None
) -> None:
    """Save towers as ``model.safetensors`` and ``card.json``.

    Use it to keep or share a fine-tuned model. The weights have open_clip's names, so open_clip loads the
    file too where the image size is the native one. Each file is written under a temporary name, flushed to
    the disk and renamed. The card also travels inside the weights, and :func:`load_towers` takes it from
    there: a save that is cut off between the two renames leaves either the previous towers or the new ones,
    never a mixture.

    Args:
        towers: What to save.
        folder: Where to; made if need be, and its earlier towers replaced.
        extra: Anything that JSON can hold, to be kept in the card. ``None`` for nothing.

    Raises:
        ValueError: If ``extra`` is not JSON, or ``folder`` is a file.

    Example:
        >>> import tempfile
        >>> towers = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(128, 64))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_towers(towers, folder, extra={"epoch": 3})
        ...     load_towers(folder).image_size
        (128, 64)
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise fail("save_towers", "a folder", f"the file {folder}")
    card = {
        "format": _FORMAT,
        "name": towers.name,
        "config": towers.config,
        "image_size": list(towers.image_size),
        "geometry": _geometry_card(towers),
        "embed_dim": towers.embed_dim,
        "image_mean": list(towers.image_mean),
        "image_std": list(towers.image_std),
        "dtype": str(towers.logit_scale.dtype).removeprefix("torch."),
        "num_parameters": sum(parameter.numel() for parameter in towers.parameters()),
        "versions": {
            "clipreid_kit": __version__,
            "open_clip": open_clip.__version__,
            "torch": str(torch.__version__),
        },
        "extra": dict(extra or {}),
    }
    try:
        text = json.dumps(card, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise fail(
            "save_towers", "extra that JSON can hold", f"{error}", "Give numbers, texts and lists."
        ) from None
    state = towers.state_dict()
    tensors = {
        name.removeprefix("model."): value.detach().cpu().contiguous()
        for name, value in state.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / WEIGHTS_FILE, save(tensors, metadata={"format": "pt", "card": text}))
    write_whole(folder / CARD_FILE, text.encode())


def load_towers(folder: str | PathLike[str]) -> ClipTowers:
    """Load towers that :func:`save_towers` saved, bit for bit.

    Use it to go on with a fine-tuned model; nothing is downloaded.

    Args:
        folder: The folder with ``model.safetensors`` and ``card.json``.

    Returns:
        The towers on the CPU, in the dtype they were saved in and in training mode.

    Raises:
        ValueError: If a file is missing, cut off or damaged, or the weights are not those of the card.
    """
    folder = Path(folder)
    for name in (CARD_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise fail(
                "load_towers",
                f"a folder with {CARD_FILE} and {WEIGHTS_FILE}",
                f"{folder} without {name}",
                "Give a folder written by save_towers.",
            )
    card = _parse_card(folder / CARD_FILE, (folder / CARD_FILE).read_bytes())
    tensors = read_weights(folder / WEIGHTS_FILE)
    inside = _card_in_weights(folder / WEIGHTS_FILE)
    if inside is not None:
        card = _parse_card(folder / WEIGHTS_FILE, inside.encode())
    check_architecture(card["name"], card["config"], tensors)
    model: Any = build_model(card["config"], seed=0)
    own = card["geometry"]
    geometry = check_geometry(
        card["image_size"],
        own.get("patch_stride"),
        own.get("last_stride"),
        own.get("position_resize", "bicubic"),
    )
    mean, std = (_colour(folder, card, key) for key in ("image_mean", "image_std"))
    towers = ClipTowers(
        model, name=card["name"], config=card["config"], image_mean=mean, image_std=std
    )
    set_geometry(model.visual, geometry)
    towers.position_resize = geometry.position_resize
    if own.get("cameras"):
        towers.camera_embedding = _cameras(model.visual, own["cameras"])
    towers.to(getattr(torch, card["dtype"]))
    towers.load_report = load_weights(towers, tensors, source_image_size=geometry.image_size)
    return towers


def _geometry_card(towers: ClipTowers) -> dict[str, Any]:
    geometry, cameras = geometry_of(towers.model.visual), towers.camera_embedding
    keys = ("num_cameras", "num_views", "scale", "tokens")
    return {
        "patch_stride": geometry.patch_stride,
        "last_stride": geometry.last_stride,
        "position_resize": towers.position_resize,
        "cameras": None if cameras is None else {key: getattr(cameras, key) for key in keys},
    }


def _cameras(visual: nn.Module, card: Mapping[str, Any]) -> CameraEmbedding:
    cameras = build_camera_embedding(visual, card["num_cameras"], card["num_views"])
    cameras.scale, cameras.tokens = card["scale"], card["tokens"]
    return cameras


def _parse_card(path: Path, text: bytes) -> dict[str, Any]:
    try:
        card: object = json.loads(text)
    except ValueError as error:
        raise fail(
            "load_towers", f"a card in JSON in {path}", f"{error}", "Save the towers again."
        ) from None
    found = card.get("format") if isinstance(card, dict) else type(card).__name__
    if not isinstance(card, dict) or found != _FORMAT:
        raise fail("load_towers", f"a card of the format {_FORMAT} in {path}", repr(found))
    kinds = (_TEXTS, str), (_NUMBERS, int), (_LISTS, list), (_MAPPINGS, dict)
    wrong = [key for keys, kind in kinds for key in keys if not isinstance(card.get(key), kind)]
    if wrong:
        raise fail(
            "load_towers", f"a whole card in {path}", f"one without a valid {', '.join(wrong)}"
        )
    if not isinstance(card.setdefault("geometry", {}), dict):  # cards of earlier versions have none
        raise fail(
            "load_towers", f"geometry as a mapping in the card of {path}", repr(card["geometry"])
        )
    if card["dtype"] not in ("float32", "float16", "bfloat16", "float64"):
        raise fail("load_towers", f"the dtype of weights in {path}", repr(card["dtype"]))
    return card


def _card_in_weights(path: Path) -> str | None:
    try:
        with safe_open(path, framework="pt") as file:
            text: str | None = (file.metadata() or {}).get("card")
    except (SafetensorError, OSError) as error:
        raise fail("load_towers", f"{path} as a safetensors file", f"{error}") from None
    return text


def _colour(folder: Path, card: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    values = card[key]
    if len(values) != 3 or not all(
        isinstance(value, int | float) and math.isfinite(value) for value in values
    ):
        raise fail("load_towers", f"{key} as three numbers in the card of {folder}", values)
    return float(values[0]), float(values[1]), float(values[2])

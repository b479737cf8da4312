"""What can be built: names, configurations and weights of open_clip, and the two small models."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.coca_model import CoCa
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import nn

from clipreid_kit._checks import fail
from clipreid_kit.clip.towers.small_models import small_model_config, small_model_names

_OWNER = "ClipTowers.from_open_clip"
_WEIGHT_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".npz", ".npy")

# what open_clip and timm raise for a configuration with a hole, a wrong word or a part that is not installed
_UNBUILDABLE = (
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class WeightSource:
    """Where the weights of a model come from, and what its training asks for.

    Attributes:
        path: The file with the weights; ``None`` for random weights.
        quick_gelu: Whether the weights were trained with the quick GELU.
        image_mean: Mean of the training pictures, by channel, of values in [0, 1].
        image_std: Standard deviation, likewise.
    """

    path: Path | None
    quick_gelu: bool
    image_mean: Colour
    image_std: Colour


def model_config(name: str) -> tuple[str, dict[str, Any]]:
    """Find the configuration of a model.

    Returns:
        The name as open_clip writes it, and a mapping free to be changed.

    Raises:
        ValueError: If there is no such model; the nearest names are shown.
    """
    cleaned = name.replace("/", "-")
    if cleaned in small_model_names():
        return cleaned, small_model_config(cleaned)
    names = open_clip.list_models()
    if cleaned in names:
        return cleaned, open_clip.get_model_config(cleaned)
    raise fail(
        _OWNER,
        "the name of an open_clip model or of a small model of this library",
        repr(name),
        f"The nearest: {_nearest(cleaned, [*small_model_names(), *names])}.",
    )


def find_weights(name: str, pretrained: str | PathLike[str] | None) -> WeightSource:
    """Turn a tag or a path into a file, downloading the tag's weights where they are not at hand.

    The mean and standard deviation are those of the tag; without one, those on which all tags of the model
    agree; else those of OpenAI's models.

    Raises:
        ValueError: If there is neither such a tag nor such a file, or the download fails.
    """
    tags = open_clip.list_pretrained_tags_by_model(name)
    if isinstance(pretrained, str) and open_clip.is_pretrained_cfg(name, pretrained):
        tag = open_clip.get_pretrained_cfg(name, pretrained)
        return WeightSource(
            _download(name, pretrained, tag), bool(tag.get("quick_gelu", False)), *_colours([tag])
        )
    mean, std = _colours([open_clip.get_pretrained_cfg(name, tag) for tag in tags])
    if pretrained is None:
        return WeightSource(None, quick_gelu=False, image_mean=mean, image_std=std)
    path = Path(pretrained)
    if path.is_file():
        return WeightSource(path, quick_gelu=False, image_mean=mean, image_std=std)
    if path.is_dir():
        remedy = (
            "A folder written by save_towers is read by load_towers."
            if (path / "card.json").exists()
            else ""
        )
        raise fail(_OWNER, "pretrained as a file with weights", f"the folder {path}", remedy)
    if isinstance(pretrained, PathLike) or path.suffix in _WEIGHT_SUFFIXES or len(path.parts) > 1:
        raise fail(_OWNER, "pretrained as a file that exists", f"{path}", "Check the path.")
    known = f"The nearest of its tags: {_nearest(pretrained, tags)}." if tags else "It has no tags."
    raise fail(_OWNER, f"pretrained as a tag of {name}, or a file", repr(pretrained), known)


def build_model(config: Mapping[str, Any], seed: int) -> nn.Module:
    """Build an open_clip model with random float32 weights on the CPU; the global generator is left alone.

    Raises:
        ValueError: If a part that the configuration names is not installed or cannot be found.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        try:
            model = _instantiate(config)
        except _UNBUILDABLE as error:
            raise fail(
                "ClipTowers",
                "a configuration that open_clip can build here",
                f"{type(error).__name__}: {error}",
                "Text models of Hugging Face need transformers and a first download.",
            ) from error
    return model.float()


def _instantiate(config: Mapping[str, Any]) -> nn.Module:
    options = dict(config)
    vision, text = dict(options.pop("vision_cfg")), dict(options.pop("text_cfg"))
    custom_text = bool(options.pop("custom_text", False)) or "hf_model_name" in text
    # the parts' own base weights are never wanted here: all or nothing comes from the checkpoint
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
    kind = (
        (CoCa if "multimodal_cfg" in options else open_clip.CustomTextCLIP)
        if custom_text
        else open_clip.CLIP
    )
    model: nn.Module = kind(vision_cfg=vision, text_cfg=text, **options)
    return model


def _colours(tags: list[dict[str, Any]]) -> tuple[Colour, Colour]:
    found = {(tuple(tag["mean"]), tuple(tag["std"])) for tag in tags}
    mean, std = found.pop() if len(found) == 1 else (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _download(name: str, tag: str, tag_config: dict[str, Any]) -> Path:
    try:
        return Path(open_clip.download_pretrained(tag_config))
    except (OSError, RuntimeError, ValueError) as error:
        raise fail(
            _OWNER,
            f"to download the weights {tag!r} of {name}",
            f"{type(error).__name__}: {error}",
            "Check the network, or fetch the file elsewhere and give its path.",
        ) from None


def _nearest(word: str, words: list[str]) -> str:
    by_lower = {known.lower(): known for known in words}
    close = difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=0.0)
    return ", ".join(by_lower[match] for match in close)

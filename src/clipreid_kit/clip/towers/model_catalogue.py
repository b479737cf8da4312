"""The models that can be built: names, configurations and weights, of open_clip and our own."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from open_clip.coca_model import CoCa
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import nn

from clipreid_kit._checks import fail
from clipreid_kit._read_files import is_file, is_folder
from clipreid_kit.clip.towers.backbone import is_backbone_config
from clipreid_kit.clip.towers.normalisation import Colour, as_colour
from clipreid_kit.clip.towers.small_models import small_model_config, small_model_names
from clipreid_kit.clip.towers.vision_only import build_vision_only

_OWNER = "ClipTowers.from_open_clip"
_WEIGHT_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".npz", ".npy")

# errors of open_clip and timm for an incomplete configuration or a part that is not installed
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


@dataclass(frozen=True)
class WeightSource:
    """File with the weights of a model, and the settings that they were trained with.

    Attributes:
        path: The file with the weights; ``None`` for random weights.
        quick_gelu: Whether the weights were trained with the quick GELU.
        image_mean: Mean of the training images by channel, of values in [0, 1].
        image_std: Standard deviation of the training images, likewise.
    """

    path: Path | None
    quick_gelu: bool
    image_mean: Colour
    image_std: Colour


def model_config(name: str) -> tuple[str, dict[str, Any]]:
    """Find the configuration of a model.

    Returns:
        The name as open_clip writes it, and a mapping that is free to be changed.

    Raises:
        ValueError: If there is no such model; the error lists the nearest names.
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
    """Resolve a tag or a path to a file, and download a tag's weights if they are not cached.

    The mean and standard deviation are those of the tag. Without a tag, they are those that all
    tags of the model share, or else those of OpenAI's models.

    Raises:
        ValueError: If there is neither such a tag nor such a file, or the download fails.
    """
    if isinstance(pretrained, str) and open_clip.is_pretrained_cfg(name, pretrained):
        tag = open_clip.get_pretrained_cfg(name, pretrained)
        mean, std = _common_colours([tag])
        quick_gelu = bool(tag.get("quick_gelu", False))
        return WeightSource(_download(name, pretrained, tag), quick_gelu, mean, std)

    tags = open_clip.list_pretrained_tags_by_model(name)
    mean, std = _common_colours([open_clip.get_pretrained_cfg(name, tag) for tag in tags])

    path = None if pretrained is None else _weights_file(name, pretrained, tags)
    return WeightSource(path, quick_gelu=False, image_mean=mean, image_std=std)


def build_model(config: Mapping[str, Any], seed: int) -> nn.Module:
    """Build a model with random float32 weights on the CPU.

    The global generator is neither read nor changed.

    Raises:
        ValueError: If a part that the configuration names is not installed or cannot be found.
    """
    if is_backbone_config(config):
        return build_vision_only(config, seed)

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
    vision = dict(options.pop("vision_cfg"))
    text = dict(options.pop("text_cfg"))

    # the base weights of the parts are never used: all weights come from the checkpoint, or none
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False

    custom_text = bool(options.pop("custom_text", False)) or "hf_model_name" in text
    kind = open_clip.CLIP
    if custom_text:
        kind = CoCa if "multimodal_cfg" in options else open_clip.CustomTextCLIP

    trunk_options = vision.pop("timm_options", None)
    if trunk_options is None:
        model: nn.Module = kind(vision_cfg=vision, text_cfg=text, **options)
        return model

    # open_clip passes no sizes to timm: it builds a small trunk, which is replaced by the right one
    placeholder = vision | {"timm_model_name": "test_vit"}
    model = kind(vision_cfg=placeholder, text_cfg=text, **options)
    visual: Any = model.visual
    visual.trunk = timm.create_model(
        vision["timm_model_name"],
        num_classes=0,
        global_pool=vision["timm_pool"],
        **trunk_options,
    )
    return model


def _weights_file(name: str, pretrained: str | PathLike[str], tags: Sequence[str]) -> Path:
    """Return the file that ``pretrained`` names, or raise ValueError with advice."""
    path = Path(pretrained)
    if is_file(path):
        return path

    if is_folder(path):
        was_saved_here = (path / "card.json").exists()
        remedy = "Load a folder written by save_towers with load_towers." if was_saved_here else ""
        raise fail(_OWNER, "pretrained as a file with weights", f"the folder {path}", remedy)

    looks_like_path = path.suffix in _WEIGHT_SUFFIXES or len(path.parts) > 1
    if isinstance(pretrained, PathLike) or looks_like_path:
        raise fail(_OWNER, "pretrained as a file that exists", f"{path}", "Check the path.")

    known = "It has no tags."
    if tags:
        known = f"The nearest of its tags: {_nearest(pretrained, tags)}."
    raise fail(_OWNER, f"pretrained as a tag of {name}, or a file", repr(pretrained), known)


def _common_colours(tags: Sequence[Mapping[str, Any]]) -> tuple[Colour, Colour]:
    """Mean and standard deviation that all tags share, or those of OpenAI's models."""
    pairs = {(tuple(tag["mean"]), tuple(tag["std"])) for tag in tags}
    mean, std = pairs.pop() if len(pairs) == 1 else (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    return as_colour(mean), as_colour(std)


def _download(name: str, tag: str, tag_config: dict[str, Any]) -> Path:
    try:
        return Path(open_clip.download_pretrained(tag_config))
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{_OWNER}: The weights {tag!r} of {name} could not be downloaded "
            f"({type(error).__name__}: {error}). Check the network, or download the file elsewhere "
            "and pass its path."
        ) from None


def _nearest(word: str, words: Sequence[str]) -> str:
    by_lower = {known.lower(): known for known in words}
    close = difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=0.0)
    return ", ".join(by_lower[match] for match in close)

"""Checkpoints of Hugging Face, from a folder or the hub: of transformers and of open_clip."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor

from clipreid_kit._checks import fail
from clipreid_kit._read_files import read_json
from clipreid_kit.clip.towers.hugging_face_layout import convert_config, convert_weights
from clipreid_kit.clip.towers.normalisation import Colour, as_colour
from clipreid_kit.clip.towers.read_weights import read_weights

HUB_PREFIXES = ("hf-hub:", "local-dir:")  # as in open_clip

_OWNER = "ClipTowers.from_hugging_face"
_OPEN_CLIP_CONFIG = "open_clip_config.json"
_CONFIG = "config.json"
_PREPROCESSOR = "preprocessor_config.json"
_WEIGHT_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
# Of weights in several files: which tensor is in which.
_INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SMALL_FILES = ("*.json", "*.txt", "*.model")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "spiece.model", "vocab.json")
_STANDARD_VOCABULARY = 49408  # of CLIP's own tokenizer, which needs no file


class HubCheckpoint(NamedTuple):
    """A checkpoint of Hugging Face in open_clip's form.

    Attributes:
        name: The folder or the name on the hub.
        config: The configuration, in open_clip's schema.
        weights: The tensors, under open_clip's names.
        image_mean: Mean that its images are normalised with, by channel.
        image_std: Standard deviation that its images are normalised with, likewise.
    """

    name: str
    config: dict[str, Any]
    weights: dict[str, Tensor]
    image_mean: Colour
    image_std: Colour


def read_hub_checkpoint(source: str | PathLike[str]) -> HubCheckpoint:
    """Read a checkpoint from a folder, or from the hub or its cache.

    Args:
        source: A folder, with or without ``local-dir:``; or a name on the hub, with or without
            ``hf-hub:``.

    Raises:
        ValueError: If there is no such folder or name, a file is missing or damaged, or the model
            is of another kind.
    """
    name = str(source)
    for prefix in HUB_PREFIXES:
        name = name.removeprefix(prefix)

    folder = Path(name)
    if not folder.is_dir():
        folder = _download(name)

    if (folder / _OPEN_CLIP_CONFIG).is_file():
        return _open_clip_checkpoint(name, folder)
    return _transformers_checkpoint(name, folder)


def check_no_second_weights(name: str, pretrained: object) -> None:
    """Raise ValueError if weights are named for a checkpoint that has its own."""
    if pretrained is not None:
        raise fail(
            "ClipTowers.from_open_clip",
            f"no pretrained for {name}, which has its own weights",
            repr(pretrained),
            "Load other weights with load_weights.",
        )


def _open_clip_checkpoint(name: str, folder: Path) -> HubCheckpoint:
    """Read a checkpoint that open_clip has written."""
    content = _read_settings(folder / _OPEN_CLIP_CONFIG)
    config = content.get("model_cfg", content)
    if not isinstance(config, dict) or "embed_dim" not in config:
        raise fail(_OWNER, f"a model_cfg in {folder / _OPEN_CLIP_CONFIG}", "none")

    images = content.get("preprocess_cfg", {})
    mean = images.get("mean", OPENAI_DATASET_MEAN)
    std = images.get("std", OPENAI_DATASET_STD)
    weights = _read_all_weights(folder)
    return HubCheckpoint(name, config, weights, as_colour(mean), as_colour(std))


def _transformers_checkpoint(name: str, folder: Path) -> HubCheckpoint:
    """Read a checkpoint of transformers."""
    settings = _read_settings(folder / _CONFIG)
    config = convert_config(settings)
    kind = settings["model_type"]

    has_tokenizer = any((folder / file).is_file() for file in _TOKENIZER_FILES)
    is_standard = kind == "clip" and config["text_cfg"]["vocab_size"] == _STANDARD_VOCABULARY
    if has_tokenizer or not is_standard:
        config["text_cfg"]["hf_tokenizer_name"] = str(folder)

    mean, std = OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    if kind == "siglip":
        mean = std = (0.5, 0.5, 0.5)
    if (folder / _PREPROCESSOR).is_file():
        images = _read_settings(folder / _PREPROCESSOR)
        mean, std = images.get("image_mean", mean), images.get("image_std", std)

    weights = convert_weights(kind, _read_all_weights(folder))
    return HubCheckpoint(name, config, weights, as_colour(mean), as_colour(std))


def _read_all_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights of a folder, from one file or from several with an index."""
    for file in _WEIGHT_FILES:
        if (folder / file).is_file():
            return read_weights(folder / file)

    for file in _INDEX_FILES:
        if (folder / file).is_file():
            return _read_shards(folder, _shard_of_tensors(folder / file))

    files = ", ".join((*_WEIGHT_FILES, *_INDEX_FILES))
    raise fail(_OWNER, f"a folder with weights ({files})", f"{folder} without any")


def _read_shards(folder: Path, shard_of: Mapping[str, str]) -> dict[str, Tensor]:
    """Read the tensors of several files, all of which an index names."""
    weights: dict[str, Tensor] = {}
    for shard in sorted(set(shard_of.values())):
        weights |= read_weights(folder / shard)

    missing = sorted(set(shard_of) - set(weights))
    if missing:
        name = missing[0]
        raise ValueError(
            f"{_OWNER}: {folder / shard_of[name]} has no {name}, which the index of {folder} "
            "names. Download the files again."
        )
    return weights


def _shard_of_tensors(index: Path) -> dict[str, str]:
    """Read which file has which tensor."""
    shard_of = _read_settings(index).get("weight_map")
    is_mapping = isinstance(shard_of, dict) and bool(shard_of)
    files = set(shard_of.values()) if isinstance(shard_of, dict) else set()

    # A name with folders in it would lead elsewhere.
    if not is_mapping or any(not isinstance(f, str) or Path(f).name != f for f in files):
        raise fail(_OWNER, f"a weight_map from tensors to names of files in {index}", "none")
    return dict(shard_of or {})


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings: object = read_json(path)
    except (OSError, ValueError) as error:
        raise fail(
            _OWNER,
            f"a folder with {_CONFIG} or {_OPEN_CLIP_CONFIG}",
            f"{path}, which cannot be read ({error})",
        ) from None

    if not isinstance(settings, dict):
        raise ValueError(f"{_OWNER}: {path} holds no JSON object, so no configuration.")
    return settings


def _download(name: str) -> Path:
    """Return the folder of a name in the cache of the hub, downloaded if necessary."""
    from huggingface_hub import snapshot_download

    try:
        # without a network this is what the cache has
        folder = Path(snapshot_download(name, allow_patterns=list(_SMALL_FILES)))
        _download_weights(name, folder)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise ValueError(
            f"{_OWNER}: {name!r} is neither a folder nor a model that the hub or its cache has "
            f"({type(error).__name__}: {reason}). Check the name and the network, or download the "
            "files elsewhere and pass their folder."
        ) from None
    return folder


def _download_weights(name: str, folder: Path) -> None:
    """Download the first file of weights that a model has, or its shards, unless they are there."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    for file in _WEIGHT_FILES:
        if (folder / file).is_file():
            return

    indices = [folder / file for file in _INDEX_FILES if (folder / file).is_file()]
    shards = sorted(set(_shard_of_tensors(indices[0]).values())) if indices else []
    if shards and all((folder / shard).is_file() for shard in shards):
        return

    for file in _WEIGHT_FILES:
        try:
            hf_hub_download(name, file)
        except EntryNotFoundError:
            continue
        return

    for shard in shards:
        hf_hub_download(name, shard)

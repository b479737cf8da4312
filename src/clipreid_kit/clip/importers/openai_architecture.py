"""Find the architecture and geometry of OpenAI's CLIP models from the shapes of their weights."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import open_clip
from torch import Tensor

from clipreid_kit.clip.towers.architecture_check import parts_of_config

ImageSize = tuple[int, int]

# Sizes at which re-identification models are trained; others have to be passed.
REID_SIZES: tuple[ImageSize, ...] = (
    (256, 128),
    (256, 256),
    (384, 128),
    (384, 192),
    (384, 384),
    (224, 224),
)

_HEAD_WIDTH = 64
_VOCABULARY_SIZE = 49408
_RESNET_STRIDE = 16  # of a ResNet whose last stage has stride 1


class FoundGeometry(NamedTuple):
    """Geometry that a position table is for.

    Attributes:
        image_size: (height, width) in pixels.
        patch_stride: Stride of a ViT's patches; ``None`` for a ResNet.
        last_stride: Stride of a ResNet's last stage; ``None`` for a ViT.
    """

    image_size: ImageSize
    patch_stride: tuple[int, int] | None
    last_stride: int | None


def is_vit(state: Mapping[str, Tensor]) -> bool:
    """Return whether the image tower, under open_clip's names, is a ViT."""
    return "visual.proj" in state


def find_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Derive the open_clip configuration of OpenAI's architecture from the shapes of its weights.

    Args:
        state: Weights under open_clip's names. Without a text tower, the configuration has the
            text tower of the model of OpenAI with that image tower, or else a single block.

    Returns:
        The configuration, with the quick GELU.

    Raises:
        KeyError: If a tensor that the architecture depends on is missing.
    """
    vision = _vision_config(state)
    projection = state["visual.proj"].T if is_vit(state) else state["visual.attnpool.c_proj.weight"]
    config = {"embed_dim": projection.shape[0], "quick_gelu": True, "vision_cfg": vision}

    if "ln_final.weight" in state:
        return config | {"text_cfg": _text_config(state)}

    for name in open_clip.list_models():
        known = open_clip.get_model_config(name)
        guess = config | {"text_cfg": known["text_cfg"]}
        if _is_same_model(guess, known):
            return guess
    return config | {"text_cfg": _text_of(width=_HEAD_WIDTH, num_layers=1, context_length=77)}


def catalogue_name(config: Mapping[str, Any]) -> str | None:
    """Return the shortest name of a configuration in open_clip; ``None`` if it has none."""
    names = [
        name
        for name in open_clip.list_models()
        if _is_same_model(config, open_clip.get_model_config(name))
    ]
    return min(names, key=len, default=None)


def possible_geometries(
    state: Mapping[str, Tensor], image_size: ImageSize | None, patch_stride: tuple[int, int] | None
) -> list[FoundGeometry]:
    """List the geometries whose grid has as many patches as the position table has rows.

    Args:
        state: Weights under open_clip's names.
        image_size: (height, width), if known. ``None`` tries the usual sizes.
        patch_stride: Stride of a ViT's patches, if known. ``None`` tries the patch size and three
            quarters of it, which is 12 for patches of 16.

    Returns:
        Every geometry that fits; empty if none does.
    """
    sizes = REID_SIZES if image_size is None else (image_size,)
    if not is_vit(state):
        num_positions = state["visual.attnpool.positional_embedding"].shape[0] - 1
        return _resnet_geometries(num_positions, sizes)

    num_patches = state["visual.positional_embedding"].shape[0] - 1
    patch = state["visual.conv1.weight"].shape[-1]
    strides = _patch_strides(patch) if patch_stride is None else [patch_stride]
    return _vit_geometries(num_patches, patch, strides, sizes)


def _resnet_geometries(num_positions: int, sizes: Sequence[ImageSize]) -> list[FoundGeometry]:
    found = []
    for last_stride, (height, width) in itertools.product((1, 2), sizes):
        reduction = _RESNET_STRIDE * last_stride
        if (height // reduction) * (width // reduction) == num_positions:
            found.append(FoundGeometry((height, width), None, last_stride))
    return found


def _vit_geometries(
    num_patches: int, patch: int, strides: Sequence[tuple[int, int]], sizes: Sequence[ImageSize]
) -> list[FoundGeometry]:
    candidates = [
        FoundGeometry(size, stride, None) for stride, size in itertools.product(strides, sizes)
    ]
    return [
        one
        for one in candidates
        if _num_patches(one.image_size, patch, one.patch_stride) == num_patches
    ]


def _vision_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    convolution = state["visual.conv1.weight"]
    if is_vit(state):
        num_blocks = _count_blocks(state, "visual.transformer.resblocks.")
        width, patch = convolution.shape[0], convolution.shape[-1]
        return {"image_size": 224, "layers": num_blocks, "width": width, "patch_size": patch}

    stages = [_count_blocks(state, f"visual.layer{stage}.") for stage in range(1, 5)]
    return {"image_size": 224, "layers": stages, "width": convolution.shape[0] * 2}


def _text_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return _text_of(
        width=state["ln_final.weight"].shape[0],
        num_layers=_count_blocks(state, "transformer.resblocks."),
        context_length=state["positional_embedding"].shape[0],
    )


def _text_of(*, width: int, num_layers: int, context_length: int) -> dict[str, Any]:
    return {
        "context_length": context_length,
        "vocab_size": _VOCABULARY_SIZE,
        "width": width,
        "heads": max(1, width // _HEAD_WIDTH),
        "layers": num_layers,
    }


def _is_same_model(config: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether a model of open_clip has this configuration, but for its image size."""
    others = known.keys() - {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
    text = known["text_cfg"]
    if others or not known.get("quick_gelu") or "hf_tokenizer_name" in text:
        return False

    same_width = known["embed_dim"] == config["embed_dim"]
    return same_width and parts_of_config(known) == parts_of_config(config)


def _patch_strides(patch: int) -> list[tuple[int, int]]:
    strides = [(patch, patch)]
    if patch % 4 == 0:
        strides.append((patch * 3 // 4, patch * 3 // 4))
    return strides


def _num_patches(size: ImageSize, patch: int, stride: tuple[int, int] | None) -> int:
    stride = stride or (patch, patch)
    rows = (size[0] - patch) // stride[0] + 1
    columns = (size[1] - patch) // stride[1] + 1
    return max(0, rows) * max(0, columns)


def _count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    numbers = set()
    for name in state:
        if name.startswith(prefix):
            numbers.add(name.removeprefix(prefix).split(".")[0])
    return len(numbers)

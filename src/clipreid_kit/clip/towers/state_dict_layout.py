"""Convert checkpoints of older layouts to the names and shapes that open_clip uses now."""

from collections.abc import Mapping

from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from torch import Tensor, nn

from clipreid_kit.clip.towers.geometry import OpenClip
from clipreid_kit.clip.towers.position_embedding import PositionResize
from clipreid_kit.clip.towers.position_table import fit_position_table
from clipreid_kit.clip.towers.vision_only import VisionOnlyModel, to_vision_only_layout

# numbers that OpenAI's archives hold beside the weights, and that identify them
OPENAI_KEYS = ("input_resolution", "context_length", "vocab_size")

_MODEL_PREFIX = "model."
_TOWERS_PREFIX = "towers."
_IMAGE_TOWERS = ("visual", "image_encoder")

# Names in the checkpoints of CLIP-ReID's own code, and open_clip's.
_CLIP_REID_PREFIXES = {"image_encoder.": "visual.", "text_encoder.": ""}
_IN_CLIP_REID_IMAGE_ENCODER = ("image_encoder.conv1.weight",)
_ADDED_PREFIXES = ("camera_embedding.", "patch_masking.")  # beside the model of open_clip
_OBSOLETE = "text.transformer.embeddings.position_ids"


def is_openai_layout(state: Mapping[str, Tensor]) -> bool:
    """Return whether a checkpoint has the form in which OpenAI published CLIP."""
    return any(key in state for key in OPENAI_KEYS)


def to_open_clip_layout(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape tensors as open_clip itself would, without changing a number.

    Args:
        model: The open_clip model that the weights are for.
        state: The checkpoint, with or without ``model.`` before its names.

    Returns:
        A new mapping under the model's names, as far as they are known.
    """
    weights = {key: tensor for key, tensor in state.items() if key not in OPENAI_KEYS}
    state = _from_clip_reid(without_prefixes(weights))

    converted: dict[str, Tensor] = convert_state_dict(model, state)
    if "positional_embedding" in converted and not hasattr(model, "positional_embedding"):
        converted = convert_to_custom_text_state_dict(converted)

    own = model.state_dict()
    if _OBSOLETE not in own:
        converted.pop(_OBSOLETE, None)

    # saved as one number, or as a vector of one
    for key in ("logit_scale", "logit_bias"):
        if key in converted and key in own and converted[key].numel() == own[key].numel():
            converted[key] = converted[key].reshape(own[key].shape)
    return converted


def without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the names under which methods and checkpoints hold the model, in any order and depth."""
    prefixes = {_prefix_of_image_tower(key) for key in state} - {None}
    prefix = prefixes.pop() if len(prefixes) == 1 else None

    renamed = {}
    for key, tensor in state.items():
        name = key if prefix is None else key.removeprefix(prefix)
        while name.startswith((_MODEL_PREFIX, _TOWERS_PREFIX)):
            name = name.removeprefix(_MODEL_PREFIX).removeprefix(_TOWERS_PREFIX)
        renamed[name] = tensor
    return renamed if len(renamed) == len(state) else dict(state)


def _prefix_of_image_tower(key: str) -> str | None:
    """Prefix before the name of the image tower; ``None`` for a tensor outside of it."""
    for tower in _IMAGE_TOWERS:
        before, found, _ = f".{key}".partition(f".{tower}.")
        if found:
            return f"{before}.".removeprefix(".")
    return None


def _from_clip_reid(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the towers in a checkpoint of CLIP-ReID's own code; leave others as they are."""
    if not any(key in state for key in _IN_CLIP_REID_IMAGE_ENCODER):
        return state

    renamed = {}
    for key, tensor in state.items():
        name = key
        for theirs, ours in _CLIP_REID_PREFIXES.items():
            if key.startswith(theirs):
                name = ours + key.removeprefix(theirs)
        renamed[name] = tensor
    return renamed


def adapt_to_towers(
    model: OpenClip,
    state: Mapping[str, Tensor],
    source_image_size: tuple[int, int] | None,
    method: PositionResize,
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Convert a checkpoint to the layout of :class:`ClipTowers`.

    Args:
        model: The open_clip model in the towers.
        state: Tensors under open_clip's names, with or without ``model.`` before them, or in an
            older layout that open_clip converts; what is added to the tokens (cameras, masks) is
            kept as it is.
        source_image_size: (height, width) in pixels that the checkpoint was trained at, if known.
        method: Method by which the position table is resized.

    Returns:
        The tensors under the towers' names, and the names of the position tables that were resized.

    Raises:
        ValueError: If the position table may be for two different grids.
    """
    added: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = key.removeprefix(_TOWERS_PREFIX)
        group = added if name.startswith(_ADDED_PREFIXES) else weights
        group[name] = tensor

    if isinstance(model, VisionOnlyModel):
        converted = to_vision_only_layout(model, weights)
    else:
        converted = to_open_clip_layout(model, weights)
    resized = fit_position_table(model.visual, converted, source_image_size, method)
    converted |= resized

    adapted = {_MODEL_PREFIX + key: tensor for key, tensor in converted.items()}
    return adapted | added, tuple(_MODEL_PREFIX + key for key in resized)

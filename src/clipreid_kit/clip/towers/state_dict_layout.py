"""Checkpoints in the layouts of several years, brought to the names that open_clip uses now."""

from collections.abc import Mapping

from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from torch import Tensor, nn

from clipreid_kit.clip.towers.geometry import fit_position_table
from clipreid_kit.clip.towers.grid import OpenClip
from clipreid_kit.clip.towers.position_embedding import PositionResize

# numbers that OpenAI's archives carry beside the weights, and by which they are known
OPENAI_KEYS = ("input_resolution", "context_length", "vocab_size")
_PREFIX, _CAMERAS = "model.", "camera_embedding."
_OBSOLETE = "text.transformer.embeddings.position_ids"


def looks_like_openai(state: Mapping[str, Tensor]) -> bool:
    """Say whether a checkpoint is in the form in which OpenAI published CLIP."""
    return any(key in state for key in OPENAI_KEYS)


def to_open_clip_layout(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape what open_clip itself would, without changing a number.

    Args:
        model: The open_clip model that the weights are for.
        state: The checkpoint, with or without ``model.`` before its names.

    Returns:
        A new mapping under the model's names, as far as they are known.
    """
    state = {
        key.removeprefix("model."): tensor
        for key, tensor in state.items()
        if key not in OPENAI_KEYS
    }
    converted: dict[str, Tensor] = convert_state_dict(model, state)
    if "positional_embedding" in converted and not hasattr(model, "positional_embedding"):
        converted = convert_to_custom_text_state_dict(converted)
    own = model.state_dict()
    if _OBSOLETE not in own:
        converted.pop(_OBSOLETE, None)
    for key in ("logit_scale", "logit_bias"):
        if key in converted and key in own and converted[key].numel() == own[key].numel():
            converted[key] = converted[key].reshape(
                own[key].shape
            )  # one number, or a vector of one
    return converted


def adapt_to_towers(
    model: OpenClip,
    state: Mapping[str, Tensor],
    source_image_size: tuple[int, int] | None,
    method: PositionResize,
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Bring a checkpoint into the layout of :class:`ClipTowers`.

    Args:
        model: The open_clip model in the towers.
        state: Tensors under open_clip's names, with or without ``model.`` before them, or in an older layout
            that open_clip converts; those of a camera embedding are left as they are.
        source_image_size: (height, width) in pixels of the checkpoint, where it is known.
        method: How the position table is resized.

    Returns:
        The tensors under the towers' names, and the names of the position tables that were resized.

    Raises:
        ValueError: If the position table can be read in two ways.
    """
    cameras = {key: value for key, value in state.items() if key.startswith(_CAMERAS)}
    converted = to_open_clip_layout(
        model, {key: value for key, value in state.items() if key not in cameras}
    )
    resized = fit_position_table(model.visual, converted, source_image_size, method)
    named = {_PREFIX + key: value for key, value in {**converted, **resized}.items()}
    return named | cameras, tuple(_PREFIX + key for key in resized)

"""Checkpoints in the layouts of several years, brought to the names that open_clip uses now."""

from collections.abc import Mapping

from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from torch import Tensor, nn

# numbers that OpenAI's archives carry beside the weights, and by which they are known
OPENAI_KEYS = ("input_resolution", "context_length", "vocab_size")
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
    state = {key.removeprefix("model."): tensor for key, tensor in state.items() if key not in OPENAI_KEYS}
    converted: dict[str, Tensor] = convert_state_dict(model, state)
    if "positional_embedding" in converted and not hasattr(model, "positional_embedding"):
        converted = convert_to_custom_text_state_dict(converted)
    own = model.state_dict()
    if _OBSOLETE not in own:
        converted.pop(_OBSOLETE, None)
    for key in ("logit_scale", "logit_bias"):
        if key in converted and key in own and converted[key].numel() == own[key].numel():
            converted[key] = converted[key].reshape(own[key].shape)  # one number, or a vector of one
    return converted

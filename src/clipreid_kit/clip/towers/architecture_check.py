"""What kind of model a checkpoint holds, told from its tensors, and whether it is the one that is wanted."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from clipreid_kit._checks import fail

# as open_clip names its towers, and MobileCLIP, which open_clip converts
_TOWERS = (
    "visual.",
    "transformer.",
    "text.",
    "token_embedding.",
    "image_encoder.",
    "text_encoder.",
)


def describe_architecture(state: Mapping[str, Tensor]) -> str:
    """Describe a CLIP model by its tensors; any other set of tensors by their number and the first name."""
    facts = _facts(state)
    return (
        " and ".join(facts.values())
        or f"{len(state)} tensors, the first {next(iter(state), 'none')}"
    )


def check_architecture(name: str, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint of another architecture, or of no CLIP model at all, before anything is built.

    Args:
        name: Name of the model that is wanted.
        config: Its configuration in open_clip.
        state: The checkpoint, in whatever layout.

    Raises:
        ValueError: If it tells an image tower or a text tower of another kind, or no name in it is that of a tower.
    """
    wanted, found = _wanted(config), _facts(state)
    differs = any(wanted[part] != found[part] for part in wanted.keys() & found.keys() - {"trunk"})
    other_kind = ("trunk" in wanted and "image" in found) or (
        "image" in wanted and "trunk" in found
    )
    no_towers = bool(wanted) and not any(
        name.rpartition("model.")[2].startswith(_TOWERS) for name in state
    )
    if differs or other_kind or no_towers:
        raise fail(
            "ClipTowers",
            f"weights of {' and '.join(wanted.values())} for {name}",
            f"weights of {describe_architecture(state)}",
            "Name the model that the weights belong to.",
        )


def _wanted(config: Mapping[str, Any]) -> dict[str, str]:
    if not all(isinstance(config.get(part), Mapping) for part in ("vision_cfg", "text_cfg")):
        return {}  # said by what builds it
    vision, text = config["vision_cfg"], config["text_cfg"]
    layers, width = vision.get("layers", 12), vision.get("width", 768)
    if vision.get("timm_model_name"):
        facts = {"trunk": f"the timm trunk {vision['timm_model_name']}"}
    elif isinstance(layers, int):
        facts = {"image": _vit(vision.get("patch_size", 16), width, layers)}
    else:
        facts = {"image": _resnet(layers, width)}
    if not text.get("hf_model_name"):
        facts["text"] = _text(text.get("width", 512), text.get("layers", 12))
    return facts


def _facts(state: Mapping[str, Tensor]) -> dict[str, str]:
    state = {name.rpartition("model.")[2]: tensor for name, tensor in state.items()}
    facts = {}
    first = state.get("visual.conv1.weight")
    if first is not None and first.ndim == 4 and "visual.proj" in state:
        blocks = _count_blocks(state, "visual.transformer.resblocks.")
        facts["image"] = _vit(first.shape[-1], first.shape[0], blocks)
    elif first is not None and first.ndim == 4 and "visual.attnpool.c_proj.weight" in state:
        stages = [_count_blocks(state, f"visual.layer{stage}.") for stage in range(1, 5)]
        facts["image"] = _resnet(stages, first.shape[0] * 2)
    elif any(name.startswith("visual.trunk.") for name in state):
        count = sum(
            tensor.numel() for name, tensor in state.items() if name.startswith("visual.trunk.")
        )
        facts["trunk"] = f"a timm trunk with {count} parameters"
    for prefix in ("", "text."):
        words = state.get(f"{prefix}token_embedding.weight")
        if words is not None and words.ndim == 2:
            facts["text"] = _text(
                words.shape[1], _count_blocks(state, f"{prefix}transformer.resblocks.")
            )
    return facts


def _vit(patch: int, width: int, blocks: int) -> str:
    return f"a ViT with patches of {patch}, width {width} and {blocks} blocks"


def _resnet(stages: Sequence[int], width: int) -> str:
    return f"a ResNet with {'-'.join(map(str, stages))} blocks and width {width}"


def _text(width: int, blocks: int) -> str:
    return f"text of width {width} and {blocks} blocks"


def _count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    return len(
        {name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)}
    )

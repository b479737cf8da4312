"""Recognise the architecture of a checkpoint by its tensors, and refuse that of another model."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from clipreid_kit._checks import fail, shown
from clipreid_kit.clip.towers.state_dict_layout import without_prefixes

# prefixes of open_clip's towers, and of MobileCLIP's, which open_clip converts
_TOWER_PREFIXES = (
    "visual.",
    "transformer.",
    "text.",
    "token_embedding.",
    "image_encoder.",
    "text_encoder.",
)


def describe_architecture(state: Mapping[str, Tensor]) -> str:
    """Describe a CLIP model by its tensors; any other set of tensors by its size and first name."""
    parts = _parts_of_checkpoint(state)
    if parts:
        return " and ".join(parts.values())
    if not state:
        return "no tensors"
    return f"{len(state)} tensors, the first {shown(next(iter(state)))}"


def check_architecture(name: str, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint of another architecture, or of no CLIP model, before anything is built.

    Args:
        name: Name of the model that is to be built.
        config: Its configuration in open_clip.
        state: The checkpoint, in any layout.

    Raises:
        ValueError: If the checkpoint holds an image or text tower of another kind, or no tower at
        all.
    """
    expected = parts_of_config(config)
    found = _parts_of_checkpoint(state)

    if _differs(expected, found) or (expected and not _has_tower(state)):
        raise fail(
            "ClipTowers",
            f"weights of {' and '.join(expected.values())} for {name}",
            f"weights of {describe_architecture(state)}",
            "Name the model that the weights belong to.",
        )


def _differs(expected: Mapping[str, str], found: Mapping[str, str]) -> bool:
    """Whether a part is described in another way; two timm trunks cannot be told apart."""
    if "trunk" in expected and "image" in found:
        return True
    if "image" in expected and "trunk" in found:
        return True

    common = expected.keys() & found.keys() - {"trunk"}
    return any(expected[part] != found[part] for part in common)


def _has_tower(state: Mapping[str, Tensor]) -> bool:
    return any(_inner_name(name).startswith(_TOWER_PREFIXES) for name in without_prefixes(state))


def parts_of_config(config: Mapping[str, Any]) -> dict[str, str]:
    """Describe the image tower (or timm trunk) and the text tower that a configuration asks for."""
    vision, text = config.get("vision_cfg"), config.get("text_cfg")
    if not isinstance(vision, Mapping) or not isinstance(text, Mapping):
        return {}  # building the model reports it

    parts = {}
    layers, width = vision.get("layers", 12), vision.get("width", 768)
    if vision.get("timm_model_name"):
        parts["trunk"] = f"the timm trunk {vision['timm_model_name']}"
    elif isinstance(layers, int):
        parts["image"] = _vit(vision.get("patch_size", 16), width, layers)
    else:
        parts["image"] = _resnet(layers, width)

    if not text.get("hf_model_name"):
        parts["text"] = _text(text.get("width", 512), text.get("layers", 12))
    return parts


def _parts_of_checkpoint(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Describe the image tower (or timm trunk) and the text tower that a checkpoint holds."""
    state = {_inner_name(name): tensor for name, tensor in without_prefixes(state).items()}
    return _image_part(state) | _text_part(state)


def _image_part(state: Mapping[str, Tensor]) -> dict[str, str]:
    convolution = state.get("visual.conv1.weight")
    if convolution is not None and convolution.ndim == 4:
        if "visual.proj" in state:
            num_blocks = _count_blocks(state, "visual.transformer.resblocks.")
            return {"image": _vit(convolution.shape[-1], convolution.shape[0], num_blocks)}

        if "visual.attnpool.c_proj.weight" in state:
            stages = [_count_blocks(state, f"visual.layer{stage}.") for stage in range(1, 5)]
            return {"image": _resnet(stages, convolution.shape[0] * 2)}

    trunk = [tensor for name, tensor in state.items() if name.startswith("visual.trunk.")]
    if trunk:
        num_parameters = sum(tensor.numel() for tensor in trunk)
        return {"trunk": f"a timm trunk with {num_parameters} parameters"}
    return {}


def _text_part(state: Mapping[str, Tensor]) -> dict[str, str]:
    part = {}
    for prefix in ("", "text."):
        words = state.get(f"{prefix}token_embedding.weight")
        if words is not None and words.ndim == 2:
            num_blocks = _count_blocks(state, f"{prefix}transformer.resblocks.")
            part["text"] = _text(words.shape[1], num_blocks)
    return part


def _vit(patch_size: int, width: int, num_blocks: int) -> str:
    return f"a ViT with patches of {patch_size}, width {width} and {num_blocks} blocks"


def _resnet(stages: Sequence[int], width: int) -> str:
    return f"a ResNet with {'-'.join(map(str, stages))} blocks and width {width}"


def _text(width: int, num_blocks: int) -> str:
    return f"text of width {width} and {num_blocks} blocks"


def _inner_name(name: str) -> str:
    """Name of a tensor inside the open_clip model, without the names of what is around it."""
    return name.rpartition("model.")[2]


def _count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    names = (name.removeprefix(prefix) for name in state if name.startswith(prefix))
    return len({name.split(".")[0] for name in names})

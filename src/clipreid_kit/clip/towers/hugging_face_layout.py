"""Map CLIP and SigLIP checkpoints of transformers onto open_clip's configuration and names."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clipreid_kit._checks import fail

_OWNER = "ClipTowers.from_hugging_face"
_LAYER = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)")
_QUERY_KEY_VALUE = ("q_proj", "k_proj", "v_proj")

_ACTIVATIONS: dict[str, dict[str, Any]] = {
    "quick_gelu": {},
    "gelu": {},
    "gelu_new": {"approximate": "tanh"},
    "gelu_pytorch_tanh": {"approximate": "tanh"},
}

# names inside a block, and outside all blocks, in transformers and in open_clip
_IN_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_IN_TIMM_BLOCK = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "self_attn.out_proj": "attn.proj",
}
_CLIP_NAMES = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
_CLIP_PROJECTIONS = {
    "text_projection.weight": "text_projection",
    "visual_projection.weight": "visual.proj",
}
_SIGLIP_NAMES = {
    "text_model.embeddings.token_embedding.weight": "text.token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "text.positional_embedding",
    "text_model.final_layer_norm.weight": "text.ln_final.weight",
    "text_model.final_layer_norm.bias": "text.ln_final.bias",
    "text_model.head.weight": "text.text_projection.weight",
    "text_model.head.bias": "text.text_projection.bias",
    "vision_model.embeddings.patch_embedding.weight": "visual.trunk.patch_embed.proj.weight",
    "vision_model.embeddings.patch_embedding.bias": "visual.trunk.patch_embed.proj.bias",
    "vision_model.post_layernorm.weight": "visual.trunk.norm.weight",
    "vision_model.post_layernorm.bias": "visual.trunk.norm.bias",
    "vision_model.head.probe": "visual.trunk.attn_pool.latent",
    "vision_model.head.attention.out_proj.weight": "visual.trunk.attn_pool.proj.weight",
    "vision_model.head.attention.out_proj.bias": "visual.trunk.attn_pool.proj.bias",
    "vision_model.head.layernorm.weight": "visual.trunk.attn_pool.norm.weight",
    "vision_model.head.layernorm.bias": "visual.trunk.attn_pool.norm.bias",
    "vision_model.head.mlp.fc1.weight": "visual.trunk.attn_pool.mlp.fc1.weight",
    "vision_model.head.mlp.fc1.bias": "visual.trunk.attn_pool.mlp.fc1.bias",
    "vision_model.head.mlp.fc2.weight": "visual.trunk.attn_pool.mlp.fc2.weight",
    "vision_model.head.mlp.fc2.bias": "visual.trunk.attn_pool.mlp.fc2.bias",
}
_SIGLIP_POSITIONS = "vision_model.embeddings.position_embedding.weight"
_SIGLIP_POOL_INPUTS = "vision_model.head.attention.in_proj_"


def convert_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a ``config.json`` of transformers to open_clip's schema.

    Args:
        settings: The content of the file.

    Returns:
        A configuration of open_clip; for SigLIP with the sizes of the timm trunk under
        ``timm_options``.

    Raises:
        ValueError: If it is of another kind of model, or of one that open_clip's modules cannot
            compute.
    """
    kind = settings.get("model_type")
    if kind == "siglip2":
        raise ValueError(
            f"{_OWNER}: This is a NaFlex checkpoint of SigLIP 2, which takes patches of images of "
            "any aspect ratio, while towers here have one image size. Use one of fixed resolution, "
            "such as google/siglip2-base-patch16-224."
        )
    if kind not in ("clip", "siglip"):
        raise fail(
            _OWNER,
            "a checkpoint of CLIP, SigLIP or SigLIP 2 (model_type clip or siglip)",
            f"model_type {kind!r}",
            "Image models of timm load by ClipTowers.from_timm.",
        )

    try:
        return _clip_config(settings) if kind == "clip" else _siglip_config(settings)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(
            f"{_OWNER}: The config.json of this checkpoint lacks sizes of its towers "
            f"({type(error).__name__}: {error}). Save the model again with save_pretrained."
        ) from None


def convert_weights(kind: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape the tensors of a checkpoint of transformers to open_clip's.

    Args:
        kind: The ``model_type``, ``clip`` or ``siglip``.
        state: Its tensors.

    Returns:
        A new mapping; a tensor that is not known keeps its name.
    """
    state = {key: value for key, value in state.items() if not key.endswith(".position_ids")}
    converted = _join_query_key_value(state, kind)

    for key, tensor in state.items():
        layer = _LAYER.fullmatch(key)
        if layer is None:
            converted |= _outside_blocks(kind, key, tensor)
            continue

        name = _name_in_block(kind, layer)
        if name is not None:
            converted[name] = tensor

    return converted


def _clip_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    text, vision = _text_settings(settings), _vision_settings(settings)
    if text["hidden_act"] != vision["hidden_act"]:
        acts = f"{vision['hidden_act']} and {text['hidden_act']}"
        raise fail(_OWNER, "one activation in both towers", acts)

    # transformers reads the largest token id where eos_token_id is 2, as it was in early files
    end = text.get("eos_token_id", 2)
    pooling = {"pool_type": "argmax"}
    if end not in (2, text["vocab_size"] - 1):
        pooling = {"pool_type": "eos", "eos_id": end}

    return {
        "embed_dim": settings["projection_dim"],
        "quick_gelu": text["hidden_act"] == "quick_gelu",
        "vision_cfg": {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            **_transformer(vision),
        },
        "text_cfg": {**_text_sizes(text), **pooling, **_transformer(text)},
    }


def _siglip_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    text, vision = _text_settings(settings), _vision_settings(settings)
    if vision["layer_norm_eps"] != 1e-6:
        raise fail(_OWNER, "a layer_norm_eps of 1e-6 in SigLIP", vision["layer_norm_eps"])
    if not vision.get("vision_use_head", True):
        raise fail(_OWNER, "SigLIP with its pooling head", "vision_use_head false")

    is_tanh = bool(_ACTIVATIONS[_activation(vision)])
    options = {
        "img_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "embed_dim": vision["hidden_size"],
        "depth": vision["num_hidden_layers"],
        "num_heads": vision["num_attention_heads"],
        "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"],
        "act_layer": "gelu_tanh" if is_tanh else "gelu",
    }
    return {
        "embed_dim": vision["hidden_size"],
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": vision["image_size"],
            "timm_model_name": "vit_base_patch16_siglip_224",
            "timm_options": options,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            **_text_sizes(text),
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            **_transformer(text),
        },
    }


def _text_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the text tower, with the defaults that files of transformers leave out."""
    kind = settings["model_type"]
    defaults = {"vocab_size": 49408, "max_position_embeddings": 77, "hidden_size": 512}
    defaults |= {"num_attention_heads": 8, "intermediate_size": 2048}
    if kind == "siglip":
        defaults = {"vocab_size": 32000, "max_position_embeddings": 64, "hidden_size": 768}
        defaults |= {"num_attention_heads": 12, "intermediate_size": 3072}
    return {**_common_settings(kind), **defaults, **settings["text_config"]}


def _vision_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the image tower, likewise."""
    kind = settings["model_type"]
    defaults = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
    defaults |= {"image_size": 224, "patch_size": 32 if kind == "clip" else 16}
    return {**_common_settings(kind), **defaults, **settings["vision_config"]}


def _common_settings(kind: str) -> dict[str, Any]:
    if kind == "clip":
        return {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
    return {"num_hidden_layers": 12, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}


def _text_sizes(text: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "context_length": text["max_position_embeddings"],
        "vocab_size": text["vocab_size"],
        "heads": text["num_attention_heads"],
    }


def _transformer(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that open_clip has for both of its own transformers."""
    converted = {
        "width": settings["hidden_size"],
        "layers": settings["num_hidden_layers"],
        "mlp_ratio": settings["intermediate_size"] / settings["hidden_size"],
        "norm_kwargs": {"eps": settings["layer_norm_eps"]},
    }
    act_options = _ACTIVATIONS[_activation(settings)]
    return converted | ({"act_kwargs": act_options} if act_options else {})


def _activation(settings: Mapping[str, Any]) -> str:
    name = str(settings["hidden_act"])
    if name not in _ACTIVATIONS:
        raise fail(_OWNER, f"hidden_act as one of {', '.join(_ACTIVATIONS)}", repr(name))
    return name


def _block_name(kind: str, tower: str, number: str) -> str:
    if tower == "text":
        prefix = "" if kind == "clip" else "text."
        return f"{prefix}transformer.resblocks.{number}."
    if kind == "clip":
        return f"visual.transformer.resblocks.{number}."
    return f"visual.trunk.blocks.{number}."


def _name_in_block(kind: str, layer: re.Match[str]) -> str | None:
    """The name of a tensor inside a block; ``None`` for queries, keys and values."""
    tower, number, inner = layer.groups()
    part, _, suffix = inner.rpartition(".")
    if part.rpartition(".")[2] in _QUERY_KEY_VALUE:
        return None

    names = _IN_TIMM_BLOCK if kind == "siglip" and tower == "vision" else _IN_BLOCK
    return f"{_block_name(kind, tower, number)}{names.get(part, part)}.{suffix}"


def _outside_blocks(kind: str, key: str, tensor: Tensor) -> dict[str, Tensor]:
    """Rename a tensor that is in no block, and give it open_clip's shape."""
    names = _CLIP_NAMES if kind == "clip" else _SIGLIP_NAMES
    if key in names:
        return {names[key]: tensor}

    if kind == "clip" and key in _CLIP_PROJECTIONS:
        return {_CLIP_PROJECTIONS[key]: tensor.T.contiguous()}

    if kind == "siglip" and key == _SIGLIP_POSITIONS:
        return {"visual.trunk.pos_embed": tensor[None]}
    if kind == "siglip" and key.startswith(_SIGLIP_POOL_INPUTS):
        return _pool_inputs(key.removeprefix(_SIGLIP_POOL_INPUTS), tensor)

    return {key: tensor}


def _join_query_key_value(state: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Join the matrices of queries, keys and values, which open_clip and timm keep in one."""
    joined = {}
    for key in state:
        layer = _LAYER.fullmatch(key)
        if layer is None or not layer[3].startswith("self_attn.q_proj."):
            continue

        suffix = key.rpartition(".")[2]
        parts = [state[key.replace("q_proj", part)] for part in _QUERY_KEY_VALUE]
        block = _block_name(kind, layer[1], layer[2])
        is_trunk = kind == "siglip" and layer[1] == "vision"
        name = f"attn.qkv.{suffix}" if is_trunk else f"attn.in_proj_{suffix}"
        joined[block + name] = torch.cat(parts)
    return joined


def _pool_inputs(suffix: str, tensor: Tensor) -> dict[str, Tensor]:
    """Split the matrix of SigLIP's pooling head, of which timm keeps the query apart."""
    width = tensor.shape[0] // 3
    pool = "visual.trunk.attn_pool."
    return {f"{pool}q.{suffix}": tensor[:width], f"{pool}kv.{suffix}": tensor[width:]}

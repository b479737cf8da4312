"""Small open_clip configurations, one for each kind of tower."""

import copy
import json
from typing import Any

import pytest
import torch

from clipreid_kit.clip.towers.build import build_with_weights
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.towers.geometry import Geometry
from clipreid_kit.clip.towers.model_catalogue import WeightSource

_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
_NO_COLOURS = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

# Towers of random weights, of which every test gets a copy: a copy takes a third of the time.
_BUILT: dict[str, ClipTowers] = {}

CONFIGS: dict[str, dict[str, Any]] = {
    # head widths of 64, which is what OpenAI's layout implies
    "vit": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 128, "patch_size": 16},
        "text_cfg": _TEXT,
    },
    "resnet": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8},
        "text_cfg": _TEXT,
    },
    "timm": {
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_vit",
            "timm_pool": "token",
            "timm_proj": "linear",
        },
        "text_cfg": _TEXT,
    },
    "eva": {
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 224,
            "timm_model_name": "eva02_tiny_patch14_224",
            "timm_pool": "token",
            "timm_proj": None,
        },
        "text_cfg": _TEXT,
    },
    "convnext": {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_convnext",
            "timm_pool": "avg",
            "timm_proj": "linear",
        },
        "text_cfg": _TEXT,
    },
    "siglip": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_vit2",
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 500,
            "hf_tokenizer_name": "nobody/nothing",
            "width": 64,
            "heads": 2,
            "layers": 2,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"},
        },
    },
    "eos": {
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 128, "patch_size": 16},
        "text_cfg": {
            **_TEXT,
            "vocab_size": 500,
            "pool_type": "eos",
            "eos_id": 2,
            "proj_bias": True,
        },
    },
    "coca": {
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 64,
            "layers": 2,
            "width": 128,
            "patch_size": 16,
            "output_tokens": True,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "attn_pooler_queries": 8,
        },
        "text_cfg": {**_TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {
            "context_length": 76,
            "vocab_size": 49408,
            "width": 64,
            "heads": 1,
            "layers": 1,
        },
    },
}


@pytest.fixture
def configs() -> dict[str, dict[str, Any]]:
    return copy.deepcopy(CONFIGS)


@pytest.fixture
def build(configs):
    """Build small towers of one kind, in evaluation mode, from random weights or a file."""

    def make(kind, path=None, image_size=None, seed=0, **geometry):
        if path is not None:
            return construct(kind, path, image_size, seed, geometry)

        key = json.dumps([kind, configs[kind], image_size, seed, geometry])
        if key not in _BUILT:
            _BUILT[key] = construct(kind, None, image_size, seed, geometry)
        return copy.deepcopy(_BUILT[key])

    def construct(kind, path, image_size, seed, geometry):
        source = WeightSource(path, False, *_NO_COLOURS)
        wanted = Geometry(image_size, **geometry)
        built = build_with_weights(kind, configs[kind], source, wanted, seed)

        towers = ClipTowers(
            built.model,
            name=kind,
            config=built.config,
            image_mean=source.image_mean,
            image_std=source.image_std,
            position_resize=wanted.position_resize,
            load_report=built.load_report,
        )
        return towers.eval()

    return make


@pytest.fixture
def build_randomized(build):
    """Build towers whose vectors are moved away from the 0 and 1 that initialisation leaves."""

    def make(kind, **options):
        towers = build(kind, **options)
        generator = torch.Generator().manual_seed(3)
        for name, tensor in towers.state_dict().items():
            is_vector = tensor.is_floating_point() and tensor.ndim == 1
            if is_vector and "logit" not in name:
                tensor.add_(torch.rand(tensor.shape, generator=generator) / 4)
        return towers

    return make

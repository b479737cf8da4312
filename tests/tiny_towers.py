"""Small towers for tests of other parts: each kind is built once, and every test gets a copy."""

import copy
from functools import cache
from typing import Any

from clipreid_kit.clip import ClipTowers
from clipreid_kit.clip.towers import model_catalogue


def tiny_towers(name: str = "reid-tiny-vit", **options: Any) -> ClipTowers:
    """Return a fresh copy of ``ClipTowers.from_open_clip(name, **options)``, in training mode."""
    config = model_catalogue.small_model_config(name)  # the trainer's tests have narrower ones
    return copy.deepcopy(_built(name, config["text_cfg"]["width"], **options))


@cache
def _built(name: str, _width: int, **options: Any) -> ClipTowers:
    return ClipTowers.from_open_clip(name, **options)

"""Small towers for tests of other parts: each kind is built once, and every test gets a copy."""

import copy
from functools import cache
from typing import Any

from clipreid_kit.clip import ClipTowers


def tiny_towers(name: str = "reid-tiny-vit", **options: Any) -> ClipTowers:
    """Return a fresh copy of ``ClipTowers.from_open_clip(name, **options)``, in training mode."""
    return copy.deepcopy(_built(name, **options))


@cache
def _built(name: str, **options: Any) -> ClipTowers:
    return ClipTowers.from_open_clip(name, **options)

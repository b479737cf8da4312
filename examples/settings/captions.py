"""Captions that a recipe inherits, and that describe the images of another source."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from examples.settings.layers import Layer

_TEXTS = ("caption", "texts", "texts_key")


def without_foreign_captions(layers: Sequence[Layer]) -> tuple[list[Layer], str | None]:
    """Drop captions that a layer says for one source where a later layer names another.

    A sentence about handwritten characters would be compared with images of persons. Options count
    as one layer. Under another `data.root` with the same source, captions stay: images are moved.

    Returns:
        The layers, and a line about what was dropped; ``None`` if nothing was.
    """
    last = _sources(layers)[-1]
    kept, dropped = [], []
    for layer, source in zip(layers, _sources(layers), strict=True):
        data = layer.tree.get("data")
        texts = [key for key in _TEXTS if isinstance(data, dict) and data.get(key) is not None]
        if layer.is_option or source in (None, last) or not texts:
            kept.append(layer)
            continue

        names = ", ".join(f"data.{key}" for key in texts)
        dropped.append(f"{names} of {layer.name}, for data.source: {source}")
        kept.append(replace(layer, tree=_without(layer.tree, texts)))

    if not dropped:
        return kept, None
    return kept, (
        f"captions of other images, and left out: {'; '.join(dropped)}. Set data.caption or "
        f"data.texts for data.source: {last}"
    )


def _sources(layers: Sequence[Layer]) -> list[Any]:
    """The source that holds after each layer; ``None`` before one is named."""
    sources: list[Any] = []
    for layer in layers:
        data = layer.tree.get("data")
        before = sources[-1] if sources else None
        sources.append(data.get("source", before) if isinstance(data, dict) else before)
    return sources


def _without(tree: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    tree = copy.deepcopy(tree)
    for key in keys:
        del tree["data"][key]
    return tree

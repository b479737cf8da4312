"""Describe the pooling of a method's frames as JSON, and build it again."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from clipreid_kit.modules import FrameAttention, FrameMean, FrameTransformer

_KNOWN = {
    "FrameMean": FrameMean,
    "FrameAttention": FrameAttention,
    "FrameTransformer": FrameTransformer,
}


def known_class(pooling: nn.Module | None) -> type[nn.Module]:
    """Return the class that a pooling would have if a card could describe it."""
    return _KNOWN.get(type(pooling).__name__, FrameMean)


def pooling_card(pooling: nn.Module | None) -> dict[str, Any] | None:
    """Describe how a pooling is built, in JSON's types; ``None`` without one."""
    if pooling is None:
        return None

    options: dict[str, Any] = {}
    if isinstance(pooling, FrameAttention):
        options = {"dim": pooling.dim, "hidden_dim": pooling.hidden.out_features}
    if isinstance(pooling, FrameTransformer):
        options = {
            "dim": pooling.dim,
            "num_blocks": len(pooling.blocks),
            "num_heads": pooling.num_heads,
            "num_positions": len(pooling.positions),
        }
    return {"kind": type(pooling).__name__, "options": options}


def build_pooling(card: Mapping[str, Any] | None) -> nn.Module | None:
    """Build the pooling of a card; ``None`` without one."""
    return None if card is None else _KNOWN[card["kind"]](**card["options"])

"""Record the attention of every head while a transformer runs, with the graph to its weights."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = Any  # an attention layer of torch or timm, whose attributes have no types


class Recorded(NamedTuple):
    """Attention of the layers that ran, each (N, heads, L', L); fused kernels never have it."""

    layers: list[Tensor]


@contextlib.contextmanager
def recorded_attention(owner: str, layers: Sequence[nn.Module]) -> Iterator[Recorded]:
    """Record the attention of some layers; their outputs stay the same to rounding.

    Each layer computes its output again from weights that are part of the graph. The hooks are
    removed at the end.

    Raises:
        ValueError: If a layer is of an unknown kind, or runs with padding or a causal flag.
    """
    for layer in layers:
        if not _is_plain_torch(layer) and not _is_plain_timm(layer):
            raise ValueError(
                f"{owner}: the attention of {type(layer).__name__} cannot be recorded. Join LoRA "
                "layers with merge_lora; for other towers use grad_cam."
            )

    recorded = Recorded([])
    seen: set[nn.Module] = set()

    def again(layer: Layer, args: Any, kwargs: Any, output: Any) -> Any:  # noqa: ANN401 (a hook)
        run = _run_torch if isinstance(layer, nn.MultiheadAttention) else _run_timm
        attention, mixed = run(owner, layer, *args, **kwargs)
        if layer not in seen:  # a block that is run again for its gradient is not another layer
            seen.add(layer)
            recorded.layers.append(attention)
        return (mixed, None) if isinstance(output, tuple) else mixed

    handles = [layer.register_forward_hook(again, with_kwargs=True) for layer in layers]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def _is_plain_torch(layer: Layer) -> bool:
    """Whether it is torch's attention of one width, without added keys."""
    if not isinstance(layer, nn.MultiheadAttention) or layer.in_proj_weight is None:
        return False
    return layer.bias_k is None and not layer.add_zero_attn


def _is_plain_timm(layer: Layer) -> bool:
    """Whether it is timm's plain self-attention, without rotary positions or gates."""
    is_named = type(layer).__name__ == "Attention" and type(layer).__module__.startswith("timm.")
    return is_named and hasattr(layer, "qkv") and getattr(layer, "gate", None) is None


def _run_torch(
    owner: str,
    layer: Layer,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,  # noqa: ARG001 (of the layer, and without effect on its output)
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,  # noqa: ARG001
    is_causal: bool = False,  # noqa: ARG001 (torch demands the mask beside it)
) -> tuple[Tensor, Tensor]:
    """Attention and output of ``nn.MultiheadAttention``, with its arguments in its order."""
    if key_padding_mask is not None:
        raise ValueError(
            f"{owner}: attention with a key_padding_mask cannot be recorded; run the model on "
            "items of one length, without padding."
        )
    if attn_mask is not None and attn_mask.ndim == 3:
        attn_mask = attn_mask.reshape(-1, layer.num_heads, *attn_mask.shape[1:])
    if not layer.batch_first:
        query, key, value = (tokens.transpose(0, 1) for tokens in (query, key, value))

    weights = layer.in_proj_weight.chunk(3)
    biases = (None, None, None) if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
    heads = []
    for tokens, weight, bias in zip((query, key, value), weights, biases, strict=True):
        projected = F.linear(tokens, weight, bias)
        heads.append(projected.reshape(*projected.shape[:2], layer.num_heads, -1).transpose(1, 2))

    attention, mixed = _attend(heads[0], heads[1], heads[2], attn_mask)
    out: Tensor = layer.out_proj(mixed)
    return attention, out if layer.batch_first else out.transpose(0, 1)


def _run_timm(
    owner: str,
    layer: Layer,
    x: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """Attention and output of timm's ``Attention``, with its arguments in its order."""
    if is_causal:
        raise ValueError(
            f"{owner}: attention with is_causal=True cannot be recorded; pass the causal mask as "
            "attn_mask."
        )
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = ~attn_mask  # timm's masks say what is seen, and torch's what is hidden

    heads = layer.qkv(x).unflatten(2, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
    query, key, value = heads.unbind(0)
    attention, mixed = _attend(layer.q_norm(query), layer.k_norm(key), value, attn_mask)
    norm = getattr(layer, "norm", None)
    out: Tensor = layer.proj(mixed if norm is None else norm(mixed))
    return attention, out


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Softmax attention of (N, heads, L, d), and what it mixes, as (N, L, heads * d)."""
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    if mask is not None:
        is_forbidden = mask.dtype == torch.bool
        scores = scores.masked_fill(mask, -torch.inf) if is_forbidden else scores + mask

    attention = scores.softmax(dim=-1)
    if not attention.requires_grad:  # all parameters are frozen
        attention.requires_grad_()
    return attention, (attention @ value).transpose(1, 2).flatten(2)

"""Causal text towers, run only as far as they must: cut at the last EOT, each distinct row once."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from open_clip.model import CLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn


@dataclass(frozen=True)
class CausalText:
    """A causal text tower of open_clip: the module that carries its parts, and how it pools.

    Attributes:
        parts: The module with ``token_embedding``, ``positional_embedding``, ``attn_mask``, ``transformer``,
            ``ln_final`` and ``text_projection``.
        pool_type: ``argmax`` (EOT is the largest token id) or ``eos`` (the first token ``eos_id``).
        eos_id: The token id that ``eos`` looks for.
    """

    parts: Any
    pool_type: str
    eos_id: int


def causal_text(model: nn.Module) -> CausalText | None:
    """Find the causal text tower of an open_clip model.

    Use it to learn whether text may be cut: only a tower whose tokens look backwards, and that is read at
    EOT, has the same value there whatever follows.

    Args:
        model: A model of open_clip.

    Returns:
        The tower, or ``None`` where text must run at full length (bidirectional, pooled at the last token or
        over all tokens, with an appended class token, or not open_clip's own).
    """
    text = getattr(model, "text", None)
    if isinstance(model, CLIP):
        tower = CausalText(model, model.text_pool_type, getattr(model, "text_eos_id", -1))
    elif isinstance(text, TextTransformer) and text.cls_emb is None and not text.output_tokens:
        tower = CausalText(text, text.pool_type, getattr(text, "eos_id", -1))
    else:
        return None
    return tower if tower.parts.attn_mask is not None and tower.pool_type in ("argmax", "eos") else None


def encode_causal_text(text: CausalText, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
    """Encode token ids, as far as the last EOT of the batch and each distinct row once.

    Args:
        text: The tower, from :func:`causal_text`.
        tokens: At least one row. Where they lie on the CPU, no device is waited for.

    Returns:
        One row for each row of ``tokens``; equal, to rounding, to the full-length forward of every row.
    """
    tokens = tokens[:, : int(_eot_positions(text, tokens).max()) + 1]
    distinct, inverse = torch.unique(tokens, dim=0, return_inverse=True)
    repeated = len(distinct) < len(tokens)
    # without repeats the caller's order stays, which saves the gather
    rows = (distinct if repeated else tokens).to(text.parts.token_embedding.weight.device)
    embeddings = run_causal_text(text, text.parts.token_embedding(rows), _eot_positions(text, rows))
    return embeddings.index_select(0, inverse.to(embeddings.device)) if repeated else embeddings


def run_causal_text(
    text: CausalText, word_embeddings: Float[Tensor, "n l w"], eot: Int[Tensor, " n"]
) -> Float[Tensor, "n d"]:
    """Run the tower from word embeddings, without positions; any length up to the context.

    Args:
        text: The tower, from :func:`causal_text`.
        word_embeddings: Embedded tokens; the tower adds its positions.
        eot: Index of each row's end-of-text token, where the row is read.

    Returns:
        The projected features at EOT.
    """
    parts, length = text.parts, word_embeddings.shape[1]
    dtype = parts.transformer.get_cast_dtype()
    x = word_embeddings.to(dtype) + parts.positional_embedding[:length].to(dtype)
    x = parts.transformer(x, attn_mask=parts.attn_mask[:length, :length])
    x = parts.ln_final(x[torch.arange(len(x), device=x.device), eot])
    projection = parts.text_projection
    if projection is not None:
        x = projection(x) if isinstance(projection, nn.Linear) else x @ projection
    return cast(Tensor, x)


def _eot_positions(text: CausalText, tokens: Tensor) -> Tensor:
    if text.pool_type == "argmax":
        return tokens.argmax(dim=-1)
    return (tokens == text.eos_id).int().argmax(dim=-1)

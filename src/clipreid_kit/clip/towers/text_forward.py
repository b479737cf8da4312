"""Run a text tower from token ids or word embeddings, a causal one up to the last end of text."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from open_clip.model import CLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from clipreid_kit._checks import check_dense, check_label_range, describe, fail
from clipreid_kit.clip.towers.geometry import OpenClip

_POOL_TYPES = ("argmax", "eos", "last", "first")
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class TextTower:
    """A text tower of open_clip: the module that holds its parts, and how it pools.

    Attributes:
        parts: The module with ``token_embedding``, ``positional_embedding``, ``attn_mask``,
            ``transformer``, ``ln_final`` and ``text_projection``.
        pool_type: Position that is read: ``argmax`` (end of text is the largest token id), ``eos``
            (the first token ``eos_id``), ``last`` or ``first``.
        eos_id: The token id that ``eos`` searches for.
    """

    parts: Any
    pool_type: str
    eos_id: int

    @property
    def causal(self) -> bool:
        """Whether tokens after the end of a text cannot change its embedding."""
        return self.parts.attn_mask is not None and self.pool_type in ("argmax", "eos")

    @property
    def width(self) -> int:
        """Width of a word embedding."""
        return int(self.parts.token_embedding.embedding_dim)

    @property
    def device(self) -> torch.device:
        """Device of the word embeddings."""
        device: torch.device = self.parts.token_embedding.weight.device
        return device


def text_tower(model: nn.Module) -> TextTower | None:
    """Find the text tower of an open_clip model.

    Use it to find out whether text may be truncated at its end, and whether the tower can be run
    from word embeddings.

    Args:
        model: A model of open_clip.

    Returns:
        The tower, or ``None`` if its parts cannot be run one by one: it appends a class token,
        builds its mask from token ids, pools over all tokens, or is not open_clip's own.
    """
    text = getattr(model, "text", None)

    if isinstance(model, CLIP):
        tower = TextTower(model, model.text_pool_type, getattr(model, "text_eos_id", -1))
    elif isinstance(text, TextTransformer):
        if text.cls_emb is not None or text.output_tokens or getattr(text, "use_pad_mask", False):
            return None
        tower = TextTower(text, text.pool_type, getattr(text, "eos_id", -1))
    else:
        return None

    return tower if tower.pool_type in _POOL_TYPES else None


def require_text_tower(owner: str, model: nn.Module) -> TextTower:
    """Find the text tower of a model.

    Raises:
        ValueError: If it cannot be run from word embeddings.
    """
    text = text_tower(model)
    if text is None:
        raise fail(
            owner,
            "a text tower that runs from word embeddings",
            f"that of {type(model).__name__}",
            "Text towers of Hugging Face and of CoCa run from token ids only: use encode_text.",
        )
    return text


def encode_tokens(
    model: OpenClip, tokens: Tensor, context_length: int, embed_dim: int
) -> Float[Tensor, "n d"]:
    """Encode rows of token ids with the text tower of any model.

    Raises:
        ValueError: If the rows are too long, or are not integers (N, L).
    """
    _check_tokens("encode_text", tokens, context_length, vocabulary_size(model))
    tokens = _indices(tokens)
    if len(tokens) == 0:
        return cast(Tensor, model.logit_scale.new_zeros(0, embed_dim))

    text = text_tower(model)
    if text is not None and text.causal:
        return encode_causal_text(text, tokens)
    return cast(Tensor, model.encode_text(tokens.to(model.logit_scale.device), normalize=False))


def look_up_tokens(model: nn.Module, tokens: Tensor, context_length: int) -> Float[Tensor, "n l w"]:
    """Look up the word embeddings of token ids.

    Raises:
        ValueError: If the rows are too long or are not integers (N, L), or the tower does not run
            from word embeddings.
    """
    text = require_text_tower("embed_tokens", model)
    _check_tokens("embed_tokens", tokens, context_length, vocabulary_size(model))
    return cast(Tensor, text.parts.token_embedding(_indices(tokens).to(text.device)))


def encode_word_embeddings(
    model: OpenClip, embeddings: Tensor, eot: Tensor, context_length: int, embed_dim: int
) -> Float[Tensor, "n d"]:
    """Encode rows of word embeddings, only as far as the last end of text if the tower is causal.

    Raises:
        ValueError: If the embeddings are not (N, L, W) with the tower's width and a length that it
            accepts, or ``eot`` is not one position within the length for each row.
    """
    owner = "encode_text_embeddings"
    text = require_text_tower(owner, model)
    _check_word_embeddings(owner, text, embeddings, eot, context_length)
    if len(embeddings) == 0:
        return cast(Tensor, model.logit_scale.new_zeros(0, embed_dim))

    length = embeddings.shape[1]
    if not torch.compiler.is_compiling():  # a compiled graph runs the length that it is given
        first, last = int(eot.min()), int(eot.max())
        if first < 0 or last >= length:
            raise fail(owner, f"eot in 0..{length - 1}", f"{first}..{last}")
        if text.causal:
            length = last + 1

    return run_text(text, embeddings[:, :length].to(text.device), eot)


def encode_causal_text(text: TextTower, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
    """Encode token ids as far as the last end of text of the batch, and each distinct row once.

    Args:
        text: A causal tower, from :func:`text_tower`.
        tokens: At least one row. On the CPU, they need no device synchronisation.

    Returns:
        One row for each row of ``tokens``; equal, to rounding, to a full-length forward of every
        row. A compiled graph runs every row, at the length that it has.
    """
    if torch.compiler.is_compiling():
        rows = tokens.to(text.device)
        return run_text(text, text.parts.token_embedding(rows), end_positions(text, rows))

    tokens = tokens[:, : int(end_positions(text, tokens).max()) + 1]
    distinct, inverse = torch.unique(tokens, dim=0, return_inverse=True)

    # without repeats, the caller's order is kept, which saves the gather
    has_repeats = len(distinct) < len(tokens)
    rows = (distinct if has_repeats else tokens).to(text.device)
    embeddings = run_text(text, text.parts.token_embedding(rows), end_positions(text, rows))

    if not has_repeats:
        return embeddings
    return embeddings.index_select(0, inverse.to(embeddings.device))


def run_text(
    text: TextTower, word_embeddings: Float[Tensor, "n l w"], eot: Int[Tensor, " n"]
) -> Float[Tensor, "n d"]:
    """Run the tower from word embeddings of any length up to the context.

    Args:
        text: The tower, from :func:`text_tower`.
        word_embeddings: Embedded tokens without positions, which the tower adds.
        eot: Index of each row's end-of-text token, at which the row is read.

    Returns:
        The projected features at the end of each text.
    """
    x = _run_blocks(text, word_embeddings)
    return _project(text, x[torch.arange(len(x), device=x.device), eot.to(x.device)])


def encode_token_states(
    model: OpenClip, tokens: Tensor, context_length: int, embed_dim: int
) -> Float[Tensor, "n l d"]:
    """Encode rows of token ids, and return the projected features at every token.

    Raises:
        ValueError: If the rows are too long or are not integers (N, L), or the tower does not run
            from word embeddings.
    """
    text = require_text_tower("encode_text_tokens", model)
    _check_tokens("encode_text_tokens", tokens, context_length, vocabulary_size(model))
    if len(tokens) == 0:
        return cast(Tensor, model.logit_scale.new_zeros(0, tokens.shape[1], embed_dim))
    if not text.causal and tokens.shape[1] != context_length:
        expected = f"the whole context of {context_length} for a text tower that is not causal"
        remedy = "Pass whole rows of tokenize."
        raise fail("encode_text_tokens", expected, f"a length of {tokens.shape[1]}", remedy)

    rows = _indices(tokens).to(text.device)
    return _project(text, _run_blocks(text, text.parts.token_embedding(rows)))


def _run_blocks(text: TextTower, word_embeddings: Tensor) -> Tensor:
    """States of every token after the last block, before the last LayerNorm."""
    parts = text.parts
    length = word_embeddings.shape[1]
    dtype = parts.transformer.get_cast_dtype()
    mask = None if parts.attn_mask is None else parts.attn_mask[:length, :length]

    x = word_embeddings.to(dtype) + parts.positional_embedding[:length].to(dtype)
    return cast(Tensor, parts.transformer(x, attn_mask=mask))


def _project(text: TextTower, states: Tensor) -> Tensor:
    """Apply the last LayerNorm and the projection to states of any shape (..., W)."""
    x = text.parts.ln_final(states)
    projection = text.parts.text_projection
    if isinstance(projection, nn.Linear):
        x = projection(x)
    elif projection is not None:
        x = x @ projection
    return cast(Tensor, x)


def end_positions(text: TextTower, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
    """Return the index at which each row of token ids is read."""
    check_is_tokens("end_of_text", tokens)
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        raise fail("end_of_text", "token ids (N, L)", describe(tokens))
    if text.pool_type == "argmax":
        return tokens.argmax(dim=-1)

    if text.pool_type == "eos":
        return (tokens == text.eos_id).int().argmax(dim=-1)

    position = tokens.shape[1] - 1 if text.pool_type == "last" else 0
    return tokens.new_full((len(tokens),), position)


def check_is_tokens(owner: str, tokens: object) -> None:
    """Require a tensor, and not the texts themselves."""
    if isinstance(tokens, Tensor):
        check_dense(owner, "tokens", tokens)
        return

    remedy = "Convert texts with towers.tokenize first."
    raise fail(owner, "token ids (N, L) as a tensor", type(tokens).__name__, remedy)


def _check_tokens(
    owner: str, tokens: Tensor, context_length: int, vocabulary_size: int | None
) -> None:
    check_is_tokens(owner, tokens)
    is_integer = tokens.dtype in _INTEGERS
    if tokens.ndim != 2 or not is_integer or not 0 < tokens.shape[1] <= context_length:
        raise fail(owner, f"token ids (N, L) with L in 1..{context_length}", describe(tokens))

    if vocabulary_size is not None:
        remedy = "Take them from towers.tokenize of the same model."
        check_label_range(owner, tokens, vocabulary_size, remedy, "tokens")


def vocabulary_size(model: nn.Module) -> int | None:
    """Return the number of token ids that a model has word embeddings for, if that is known."""
    for parts in (model, getattr(model, "text", None)):
        table = getattr(parts, "token_embedding", None)
        if isinstance(table, nn.Embedding):
            return table.num_embeddings

    # Text towers of Hugging Face.
    transformer = getattr(getattr(model, "text", None), "transformer", None)
    find_table = getattr(transformer, "get_input_embeddings", None)
    table = None if find_table is None else find_table()
    return table.num_embeddings if isinstance(table, nn.Embedding) else None


def _indices(tokens: Tensor) -> Tensor:
    """Return token ids of a type that tables of embeddings take."""
    return tokens if tokens.dtype in (torch.int32, torch.int64) else tokens.long()


def _check_word_embeddings(
    owner: str, text: TextTower, embeddings: Tensor, eot: Tensor, context_length: int
) -> None:
    is_suitable = (
        embeddings.ndim == 3
        and embeddings.shape[2] == text.width
        and 0 < embeddings.shape[1] <= context_length
    )
    if not is_suitable:
        expected = f"embeddings (N, L, {text.width}) with L in 1..{context_length}"
        raise fail(owner, expected, describe(embeddings))

    if eot.shape != embeddings.shape[:1] or eot.is_floating_point():
        raise fail(owner, f"eot as {len(embeddings)} integers, one for each row", describe(eot))

    if not text.causal and embeddings.shape[1] != context_length:
        raise fail(
            owner,
            f"the whole context of {context_length} for a text tower that is not causal",
            f"a length of {embeddings.shape[1]}",
            "Embed whole rows of tokenize.",
        )

"""Pseudo tokens: vectors that stand in the place of words."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from clipreid_kit._checks import describe, fail

_OWNER = "insert_pseudo_token"


def insert_pseudo_token(
    word_embeddings: Float[Tensor, "b l w"],
    pseudo_tokens: Float[Tensor, "n *m w"],
    start: int | Integer[Tensor, " n"],
) -> Float[Tensor, "n l w"]:
    """Put pseudo tokens into embedded sentences, in the place of the words that stand there.

    Use it for prompts with learned words: embed a template that has a filler where the learned words belong, and
    replace the filler. What comes before and after stays, so the position of the end-of-text token does, too. Needs no
    tokenizer and no CLIP.

    Args:
        word_embeddings: One embedded sentence (1, L, W) for all rows, or one for each (N, L, W); without positions.
        pseudo_tokens: One vector for each row (N, W), or M of them (N, M, W).
        start: Index of the first replaced word in [0, L - M]; a number, or a tensor with one for each row. A tensor is
            checked where it lies on the CPU and the graph is not compiled.

    Returns:
        Sentences (N, L, W) in the dtype of ``word_embeddings``, with gradient to both; none for no rows.

    Raises:
        ValueError: If shapes disagree, or the pseudo tokens do not fit into the sentence at ``start``.

    Example:
        >>> sentence = torch.zeros(1, 4, 2)
        >>> insert_pseudo_token(sentence, torch.ones(3, 2), 2)[0, :, 0]
        tensor([0., 0., 1., 0.])

    References:
        Gal et al., An Image is Worth One Word, ICLR 2023 (pseudo words). Yang et al., PromptSG, CVPR 2024, section 3.
    """
    if word_embeddings.ndim != 3 or not word_embeddings.is_floating_point():
        raise fail(
            _OWNER, "word_embeddings as floating-point (1 or N, L, W)", describe(word_embeddings)
        )
    if pseudo_tokens.ndim not in (2, 3) or pseudo_tokens.shape[-1] != word_embeddings.shape[2]:
        raise fail(
            _OWNER,
            f"pseudo_tokens (N, {word_embeddings.shape[2]}) or (N, M, {word_embeddings.shape[2]})",
            describe(pseudo_tokens),
            "Their width is that of the word embeddings, which is not that of image embeddings.",
        )
    tokens = pseudo_tokens[:, None] if pseudo_tokens.ndim == 2 else pseudo_tokens
    rows, count, width = tokens.shape
    if word_embeddings.shape[0] not in (1, rows):
        raise fail(
            _OWNER, f"one sentence, or one for each of {rows} rows", word_embeddings.shape[0]
        )
    length = word_embeddings.shape[1]
    sentences, tokens = word_embeddings.expand(rows, -1, -1), tokens.to(word_embeddings.dtype)
    if isinstance(start, int):
        _check_span(start, start, count, length)
        return torch.cat([sentences[:, :start], tokens, sentences[:, start + count :]], dim=1)
    if start.shape != (rows,) or start.is_floating_point():
        raise fail(_OWNER, f"start as a whole number, or {rows} of them", describe(start))
    if not torch.compiler.is_compiling() and start.device.type == "cpu" and rows > 0:
        _check_span(int(start.min()), int(start.max()), count, length)
    places = start.to(tokens.device).long()[:, None] + torch.arange(count, device=tokens.device)
    return sentences.scatter(1, places[:, :, None].expand(-1, -1, width), tokens)


def _check_span(first: int, last: int, count: int, length: int) -> None:
    if first < 0 or last + count > length:
        raise fail(
            _OWNER,
            f"start in [0, {length - count}] for {count} of {length} words",
            f"{first} to {last}",
        )

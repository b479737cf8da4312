"""Pseudo tokens: vectors in the place of words."""

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
    """Replace words of embedded sentences by pseudo tokens.

    Use it for prompts with learned words: embed a template with filler words in their place, and
    replace the fillers. The words before and after stay, and so does the position of the
    end-of-text token. Needs no tokenizer and no CLIP.

    Args:
        word_embeddings: One embedded sentence (1, L, W) for all rows, or one for each (N, L, W);
            without positions.
        pseudo_tokens: One vector for each row (N, W), or M of them (N, M, W).
        start: Index of the first replaced word, in [0, L - M]: a number, or a tensor with one for
            each row. The values of a tensor are checked if it is on the CPU and the graph is not
            compiled.

    Returns:
        Sentences (N, L, W) in the dtype of ``word_embeddings``, with gradient to both arguments;
        none for no rows.

    Raises:
        ValueError: If shapes disagree, or the pseudo tokens do not fit into the sentence at
            ``start``.

    Example:
        >>> sentence = torch.zeros(1, 4, 2)
        >>> insert_pseudo_token(sentence, torch.ones(3, 2), 2)[0, :, 0]
        tensor([0., 0., 1., 0.])

    References:
        Gal et al., An Image is Worth One Word, ICLR 2023 (pseudo words). Yang et al., PromptSG,
        CVPR 2024, section 3.
    """
    _check_shapes(word_embeddings, pseudo_tokens)
    tokens = pseudo_tokens[:, None] if pseudo_tokens.ndim == 2 else pseudo_tokens
    num_rows, num_tokens, width = tokens.shape
    length = word_embeddings.shape[1]
    if word_embeddings.shape[0] not in (1, num_rows):
        expected = f"one sentence, or one for each of {num_rows} rows"
        raise fail(_OWNER, expected, word_embeddings.shape[0])

    sentences = word_embeddings.expand(num_rows, -1, -1)
    tokens = tokens.to(word_embeddings.dtype)

    if isinstance(start, int):
        _check_span(start, start, num_tokens, length)
        before = sentences[:, :start]
        after = sentences[:, start + num_tokens :]
        return torch.cat([before, tokens, after], dim=1)

    if start.shape != (num_rows,) or start.is_floating_point():
        raise fail(_OWNER, f"start as a whole number, or {num_rows} of them", describe(start))
    if not torch.compiler.is_compiling() and start.device.type == "cpu" and num_rows > 0:
        _check_span(int(start.min()), int(start.max()), num_tokens, length)

    first = start.to(tokens.device).long()
    positions = first[:, None] + torch.arange(num_tokens, device=tokens.device)
    return sentences.scatter(1, positions[:, :, None].expand(-1, -1, width), tokens)


def _check_shapes(word_embeddings: Tensor, pseudo_tokens: Tensor) -> None:
    """Raise ValueError if an argument has the wrong number of dimensions, or the widths differ."""
    if word_embeddings.ndim != 3 or not word_embeddings.is_floating_point():
        expected = "word_embeddings as floating-point (1 or N, L, W)"
        raise fail(_OWNER, expected, describe(word_embeddings))

    width = word_embeddings.shape[2]
    if pseudo_tokens.ndim not in (2, 3) or pseudo_tokens.shape[-1] != width:
        raise fail(
            _OWNER,
            f"pseudo_tokens (N, {width}) or (N, M, {width})",
            describe(pseudo_tokens),
            "They have the width of the word embeddings, which is not that of image embeddings.",
        )


def _check_span(first: int, last: int, num_tokens: int, length: int) -> None:
    """Raise ValueError if pseudo tokens at one of these indices would not fit."""
    if first < 0 or last + num_tokens > length:
        expected = f"start in [0, {length - num_tokens}] for {num_tokens} of {length} words"
        raise fail(_OWNER, expected, f"{first} to {last}")

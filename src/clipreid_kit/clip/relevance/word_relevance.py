"""Relevance of the words of a text for its similarity to an image."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_embeddings, describe, fail
from clipreid_kit.clip.relevance._recorded_attention import recorded_attention
from clipreid_kit.clip.relevance._unchanged import evaluated, similarities
from clipreid_kit.clip.relevance.attention_relevance import relevance_of
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers
from clipreid_kit.clip.towers.text_forward import require_text_tower

_OWNER = "word_relevance"


class WordRelevance(NamedTuple):
    """A word of a text, and its relevance >= 0; only proportions within a text have a meaning."""

    word: str
    relevance: float


def word_relevance(
    towers: ClipTowers, texts: Sequence[str], targets: Float[Tensor, "m d"]
) -> list[list[WordRelevance]]:
    """Relevance of each word of a text for the similarity of the text and its target.

    The formula is that of :func:`attention_relevance`, in the text tower, read at the end of the
    text. The relevance of a word is the sum of its tokens'.

    Args:
        towers: Towers with a text tower of open_clip.
        texts: Texts that fit into the context.
        targets: What each text is compared with: embeddings (N, D) of images, or (1, D) for all.

    Returns:
        For each text its words, as they are divided by spaces. No lists for no texts. The towers
        are left as they were.

    Raises:
        ValueError: If there is no such text tower, texts and targets do not suit each other, or the
            tokenizer joins words.

    Example:
        >>> import torch
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(32, 16))
        >>> image = towers.encode_image(torch.rand(1, 3, 32, 16))
        >>> [found.word for found in word_relevance(towers, ["A red coat"], image)[0]]
        ['A', 'red', 'coat']

    References:
        Chefer, Gur & Wolf, Generic Attention-model Explainability for Interpreting Bi-Modal and
        Encoder-Decoder Transformers, ICCV 2021, eq. 5 and 6.
    """
    check_towers(_OWNER, towers)
    if isinstance(texts, str):
        raise fail(_OWNER, "texts as a sequence of texts", repr(texts), "Write [text].")
    parts = require_text_tower(_OWNER, towers.model).parts
    check_embeddings(_OWNER, "targets", targets)
    if len(targets) not in (1, len(texts)):
        raise fail(_OWNER, f"1 or {len(texts)} targets", describe(targets))

    layers = [block.attn for block in parts.transformer.resblocks]
    found = []
    for index, text in enumerate(texts):
        words, positions = _words_in(towers, text)
        tokens = towers.tokenize([text])
        end = int(towers.end_of_text(tokens)[0])
        target = targets[[index if len(targets) > 1 else 0]]

        with evaluated(towers), recorded_attention(_OWNER, layers) as recorded:
            similarity = similarities(_OWNER, towers, tokens, target, towers.encode_text)
            relevance = relevance_of(similarity.sum(), recorded.layers)[0, end]

        values = [float(relevance[of_word].sum()) for of_word in positions]
        pairs = zip(words, values, strict=True)
        found.append([WordRelevance(word, value) for word, value in pairs])
    return found


def _words_in(towers: ClipTowers, text: str) -> tuple[list[str], list[list[int]]]:
    """The words of a text, and the positions of each one's tokens in the text's row."""
    words = text.split()
    ids_of_words = [towers.token_ids(word) for word in words]
    ids = towers.token_ids(text)
    if [one for of_word in ids_of_words for one in of_word] != ids:
        raise ValueError(
            f"{_OWNER}: the tokenizer of {towers.name} does not divide {text!r} by words. Write "
            "plain words with spaces between them."
        )

    row = towers.tokenize([text])[0].tolist()
    start = next(at for at in range(len(row)) if row[at : at + len(ids)] == ids)
    positions = []
    for of_word in ids_of_words:
        positions.append(list(range(start, start + len(of_word))))
        start += len(of_word)
    return words, positions

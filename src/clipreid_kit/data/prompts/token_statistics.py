"""Measure the lengths of texts in tokens."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clipreid_kit.data.prompts.token_safe import count_clip_tokens


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """Lengths of texts in tokens, start and end included.

    Attributes:
        num_texts: Number of texts.
        shortest: Tokens of the shortest text; 0 if there are no texts, like the following.
        median: Tokens of the median text.
        mean: Mean number of tokens.
        longest: Tokens of the longest text.
        max_tokens: Number of tokens that the text tower reads.
        num_too_long: Number of texts with more tokens than that.
    """

    num_texts: int
    shortest: int
    median: float
    mean: float
    longest: int
    max_tokens: int
    num_too_long: int


def token_statistics(
    texts: Sequence[str], max_tokens: int = 77, *, count_tokens: Callable[[str], int] | None = None
) -> TokenStatistics:
    """Measure texts in tokens.

    Use it before training: a tokenizer truncates texts that are too long without a message.

    Args:
        texts: Any number of texts.
        max_tokens: Number of tokens that the text tower reads, start and end included.
        count_tokens: Counts the tokens of a text, such as ``ClipTowers.count_tokens``; defaults to
            CLIP's vocabulary.

    Returns:
        Their number and lengths; zeros if there are no texts.

    Example:
        >>> found = token_statistics(["a hat", "a red hat"], max_tokens=4)
        >>> found.shortest, found.mean, found.longest, found.num_too_long
        (4, 4.5, 5, 1)
    """
    count = count_tokens or count_clip_tokens
    lengths = sorted(count(text) for text in texts)
    if not lengths:
        lengths = [0]

    return TokenStatistics(
        num_texts=len(texts),
        shortest=lengths[0],
        median=statistics.median(lengths),
        mean=statistics.fmean(lengths),
        longest=lengths[-1],
        max_tokens=max_tokens,
        num_too_long=sum(length > max_tokens for length in lengths),
    )

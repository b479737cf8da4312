"""How long texts are, in tokens."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clipreid_kit.data.prompts.token_safe import count_clip_tokens


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """How long the texts are, in tokens with start and end.

    Attributes:
        num_texts: How many texts there are.
        shortest: Fewest tokens; 0 where there are no texts, like the following.
        median: Tokens of the middle text.
        mean: Mean number of tokens.
        longest: Most tokens.
        max_tokens: What the text tower reads.
        num_too_long: Texts with more tokens than that.
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

    Use it before training: texts that are too long would be cut without a message.

    Args:
        texts: Any number.
        max_tokens: What the text tower reads, start and end included.
        count_tokens: Tokens of a text, such as ``ClipTowers.count_tokens``; ``None`` counts by CLIP's vocabulary.

    Returns:
        Their number and lengths; zeros where there are no texts.

    Example:
        >>> token_statistics(["a hat", "a red hat"], max_tokens=4)
        TokenStatistics(num_texts=2, shortest=4, median=4.5, mean=4.5, longest=5, max_tokens=4, num_too_long=1)
    """
    count = count_tokens or count_clip_tokens
    lengths = sorted(count(text) for text in texts) or [0]
    return TokenStatistics(
        num_texts=len(texts),
        shortest=lengths[0],
        median=statistics.median(lengths),
        mean=statistics.fmean(lengths),
        longest=lengths[-1],
        max_tokens=max_tokens,
        num_too_long=sum(length > max_tokens for length in lengths),
    )

"""Shorten texts to the length that a text tower reads, by whole sentences."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from clipreid_kit._checks import check_integer

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

CountTokens = Callable[[str], int]
Order = Callable[[Sequence[str]], Sequence[int]]

# Full-width marks need no space after them.
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])")  # noqa: RUF001
_CLAUSE_END = re.compile(r"(?<=[,;:])\s+|(?<!\s)\s+(?=[-\u2013\u2014]\s)")
_MARKS = re.compile(r"<(?:start_of_text|end_of_text)>", re.IGNORECASE)

# Scripts without spaces between words: Thai, Lao, Myanmar, Khmer, Japanese, Chinese.
_CHARACTER = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)

# Statements of a product page that do not describe the garment's look.
_CARE = r"(?:machine|hand|cold|warm|gentle)[- ](?:wash|clean)|dry[- ]clean|tumble dry"
_ORIGIN = r"imported|made in"
_MODEL = r"model (?:is|wears)"
_MEASURES = (
    r"(?:full|approx\w*|sleeve|inseam|total) length|inseam|(?:chest|waist|bust|hem) (?:is )?\d"
    r"|measured from"
)
_SHARES = r"\d+ ?%"
_ASIDE = re.compile(rf"\b(?:{_CARE}|{_ORIGIN}|{_MODEL}|{_MEASURES}|{_SHARES})", re.IGNORECASE)

_ROUNDS = 4  # of decoding entities of entities


def token_safe_prompt(
    text: str,
    max_tokens: int = 77,
    *,
    count_tokens: CountTokens | None = None,
    order: Order | None = None,
) -> str:
    """Shorten a text to the length that a text tower reads, by whole sentences.

    Use it on every prompt before training: the tokenizer truncates a longer text in the middle of a
    word, without a message.

    Sentences (and lines) are kept while they fit, in the order of the text or of ``order``; a
    sentence that does not fit is left out, and the next one is tried. Only if no sentence fits is
    the first one truncated: after a clause if one fits, otherwise after a word. Scripts without
    spaces are truncated after a character.

    Args:
        text: Any text. Extra space is removed, entities and broken encodings are repaired as the
            tokenizer would, and the marks ``<start_of_text>`` and ``<end_of_text>``, which would
            end the text early, are removed.
        max_tokens: Maximum number of tokens, start and end included, >= 2; 77 in CLIP, 64 in
            SigLIP.
        count_tokens: Counts the tokens of a text, start and end included, such as
            ``ClipTowers.count_tokens``; defaults to CLIP's vocabulary.
        order: Maps the sentences to their positions, the most important first, such as
            :func:`order_of_information`; positions that it leaves out are dropped. ``None`` keeps
            the order of the text.

    Returns:
        The whole text if it fits, otherwise a part of it; empty if the first word alone does not
        fit.

    Raises:
        ValueError: If ``max_tokens < 2``, which leaves no room for start and end.

    Example:
        >>> text = "A red coat. It has two rows of brass buttons, a belt and a hood. Hand wash."
        >>> # start + 4 + 3 + end; the middle sentence alone has 14 tokens
        >>> token_safe_prompt(text, max_tokens=12)
        'A red coat. Hand wash.'
        >>> token_safe_prompt("a coat with a belt, two pockets", max_tokens=9)
        'a coat with a belt'
    """
    check_integer("token_safe_prompt", "max_tokens", max_tokens, 2)
    count = count_tokens or count_clip_tokens

    sentences = split_sentences(text)
    if order is not None:
        sentences = [sentences[position] for position in order(sentences)]
    if not sentences:
        return ""

    # A sentence has the same tokens alone as among others.
    kept, used = [], 2
    for sentence in sentences:
        length = count(sentence) - 2
        if used + length <= max_tokens:
            kept.append(sentence)
            used += length

    # Except where repairs of broken encodings depend on the neighbours.
    while kept and count(" ".join(kept)) > max_tokens:
        kept.pop()

    if not kept:
        return _beginning(sentences[0], max_tokens, count)

    return " ".join(kept)


def order_of_information(sentences: Sequence[str]) -> list[int]:
    """Put sentences about the look of a garment before the other sentences of a product page.

    Sentences about care, material, measures, origin and the model come last; otherwise the order is
    kept.

    Args:
        sentences: The result of :func:`split_sentences`.

    Returns:
        All positions, the most informative first.

    Example:
        >>> order_of_information(["Hand wash.", "A dress with a scoop neck.", "Made in China."])
        [1, 0, 2]
    """

    def is_aside(position: int) -> bool:
        return _ASIDE.search(sentences[position]) is not None

    return sorted(range(len(sentences)), key=is_aside)


def split_sentences(text: str) -> list[str]:
    r"""Split a text at line ends and after ``.``, ``!``, ``?`` and similar marks.

    Extra space is removed.

    Args:
        text: Any text.

    Returns:
        The sentences, none of them empty.

    Example:
        >>> split_sentences("Soft knit.  Sizes 3.5 to 6!\n Zip   fly")
        ['Soft knit.', 'Sizes 3.5 to 6!', 'Zip fly']
    """
    sentences = []
    for line in _cleaned(text).splitlines():
        for piece in _SENTENCE_END.split(line):
            sentence = " ".join(piece.split())
            if sentence:
                sentences.append(sentence)

    return sentences


def count_clip_tokens(text: str) -> int:
    """Count the tokens of a text in CLIP's vocabulary, start and end included.

    Args:
        text: Any text.

    Returns:
        At least 2; CLIP reads 77.

    Example:
        >>> count_clip_tokens("a photo of a cat"), count_clip_tokens("")
        (7, 2)
    """
    return len(_tokenizer().encode(text)) + 2


@lru_cache(maxsize=1)
def _tokenizer() -> "SimpleTokenizer":
    # Imported on first use, because it takes seconds.
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def _cleaned(text: str) -> str:
    """Repair each line as the tokenizer would, and remove the marks of start and end."""
    return "\n".join(_cleaned_line(line) for line in text.splitlines())


def _cleaned_line(line: str) -> str:
    from open_clip.tokenizer import basic_clean

    for _ in range(_ROUNDS):
        before = line
        line = _MARKS.sub(" ", basic_clean(line))
        if line == before:
            break

    # A mark may be written in a way that no pattern covers.
    if _has_marks(line):
        line = line.replace("<", " ").replace("&", " ")

    return line


def _has_marks(line: str) -> bool:
    """Check whether the tokenizer finds a start or end mark in a line."""
    if "_of_" not in line.lower() and "&" not in line:
        return False

    tokenizer = _tokenizer()
    tokens = tokenizer.encode(line)
    return tokenizer.sot_token_id in tokens or tokenizer.eot_token_id in tokens


def _beginning(sentence: str, max_tokens: int, count: CountTokens) -> str:
    """Return the longest beginning of whole clauses that fits, or else of whole words."""
    clause_ends = [match.start() for match in _CLAUSE_END.finditer(sentence)]
    best = _longest_that_fits(sentence, clause_ends, max_tokens, count)
    if not best:
        best = _longest_that_fits(sentence, _word_ends(sentence), max_tokens, count)

    # A comma or a dash at the end is not needed.
    bare = best.rstrip(" ,;:-\u2013\u2014")
    if bare and count(bare) <= max_tokens:
        return bare

    return best


def _longest_that_fits(
    sentence: str, ends: Iterable[int], max_tokens: int, count: CountTokens
) -> str:
    best = ""
    for end in ends:
        if count(sentence[:end]) > max_tokens:
            break
        best = sentence[:end]

    return best


def _word_ends(sentence: str) -> Iterator[int]:
    """Yield the positions, in ascending order, at which a cut leaves words whole."""
    for position, letter in enumerate(sentence):
        starts_character = _CHARACTER.match(letter) and not unicodedata.combining(letter)
        if letter == " " or (position > 0 and starts_character):
            yield position

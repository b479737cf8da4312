"""Texts that fit a text tower: whole sentences, never a part of a word."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from open_clip.tokenizer import SimpleTokenizer, basic_clean

from clipreid_kit._checks import check_integer

CountTokens = Callable[[str], int]
Order = Callable[[Sequence[str]], Sequence[int]]


def token_safe_prompt(
    text: str,
    max_tokens: int = 77,
    *,
    count_tokens: CountTokens | None = None,
    order: Order | None = None,
) -> str:
    """Shorten a text to what a text tower reads, by whole sentences.

    Use it on every prompt before training: what does not fit would be cut by the tokenizer, in the middle of a word,
    without a message.

    Sentences (and lines) are taken as long as they fit, in the order in which they come or that ``order`` gives; one
    that does not fit is left out and the next is tried. Only if not a single one fits is the first cut, after a clause
    if one fits and otherwise after a word. Scripts that are written without spaces are cut after a character.

    Args:
        text: Any text. Space is tidied, entities and broken encodings are repaired as the tokenizer would, and the
            marks ``<start_of_text>`` and ``<end_of_text>``, which would end the text early, are taken out.
        max_tokens: Most tokens, start and end included, >= 2; 77 in CLIP, 64 in SigLIP.
        count_tokens: Tokens of a text, start and end included, such as ``ClipTowers.count_tokens``; ``None`` counts by
            CLIP's vocabulary.
        order: From the sentences to their positions, the most important first, such as :func:`order_of_information`;
            positions that it leaves out are dropped. ``None`` keeps the order of the text.

    Returns:
        The text, if all of it fits. It is empty if the first word alone does not fit.

    Raises:
        ValueError: If ``max_tokens < 2``, which leaves no room for start and end.

    Example:
        >>> text = "A red coat. It has two rows of brass buttons, a belt and a hood. Hand wash."
        >>> token_safe_prompt(text, max_tokens=12)  # start + 4 + 3 + end; the middle sentence would take 16
        'A red coat. Hand wash.'
        >>> token_safe_prompt("a coat with a belt, two pockets", max_tokens=9)
        'a coat with a belt'
    """
    check_integer("token_safe_prompt", "max_tokens", max_tokens, 2)
    count = count_tokens or count_clip_tokens
    sentences = split_sentences(text)
    chosen = [sentences[place] for place in order(sentences)] if order is not None else sentences
    # a sentence's tokens do not depend on its neighbours but for repairs of broken encodings: hence the last check
    lengths = [count(sentence) - 2 for sentence in chosen]
    kept, used = [], 2
    for sentence, length in zip(chosen, lengths, strict=True):
        if used + length <= max_tokens:
            kept.append(sentence)
            used += length
    while kept and count(" ".join(kept)) > max_tokens:
        kept.pop()
    if kept or not chosen:
        return " ".join(kept)
    return _beginning(chosen[0], max_tokens, count)


def order_of_information(sentences: Sequence[str]) -> list[int]:
    """Put what a garment looks like before what else a product page says of it.

    Sentences on care, material shares, measures, origin and the model who wears it come last; otherwise the order
    stays.

    Args:
        sentences: As :func:`split_sentences` gives them.

    Returns:
        All positions, the most informative first.

    Example:
        >>> order_of_information(["Hand wash cold.", "A knit dress with a scoop neck.", "Made in China."])
        [1, 0, 2]
    """
    return sorted(
        range(len(sentences)), key=lambda place: _ASIDE.search(sentences[place]) is not None
    )


def split_sentences(text: str) -> list[str]:
    r"""Split a text at line ends and after ``.``, ``!``, ``?`` and their like; space is tidied.

    Args:
        text: Any text.

    Returns:
        The sentences, none of them empty.

    Example:
        >>> split_sentences("Soft knit.  Sizes 3.5 to 6!\n Zip   fly")
        ['Soft knit.', 'Sizes 3.5 to 6!', 'Zip fly']
    """
    pieces = (piece for line in _cleaned(text).splitlines() for piece in _SENTENCE_END.split(line))
    return [tidy for piece in pieces if (tidy := " ".join(piece.split()))]


def count_clip_tokens(text: str) -> int:
    """Count the tokens of a text by CLIP's vocabulary, start and end included.

    Args:
        text: Any text.

    Returns:
        At least 2; CLIP reads 77.

    Example:
        >>> count_clip_tokens("a photo of a cat"), count_clip_tokens("")
        (7, 2)
    """
    return len(_tokenizer().encode(text)) + 2


_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])")  # noqa: RUF001  full-width marks need no space after them
_CLAUSE_END = re.compile(r"(?<=[,;:])\s+|\s+(?=[-\u2013\u2014]\s)")
_MARKS = re.compile(r"<(?:start_of_text|end_of_text)>", re.IGNORECASE)
# Scripts without spaces between words: Thai, Lao, Myanmar, Khmer, Japanese, Chinese.
_CHARACTER = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_ASIDE = re.compile(
    r"\b(?:(?:machine|hand|cold|warm|gentle)[- ](?:wash|clean)|dry[- ]clean|tumble dry|imported|made in"
    r"|model (?:is|wears)|(?:full|approx\w*|sleeve|inseam|total) length|inseam|(?:chest|waist|bust|hem) (?:is )?\d"
    r"|measured from|\d+ ?%)",
    re.IGNORECASE,
)
_ROUNDS = 4  # entities of entities of entities


@lru_cache(maxsize=1)
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


def _cleaned(text: str) -> str:
    """Repair line by line as the tokenizer does, so that it finds nothing more to repair; then drop the marks."""
    return "\n".join(_cleaned_line(line) for line in text.splitlines())


def _cleaned_line(line: str) -> str:
    for _ in range(_ROUNDS):
        before, line = line, _MARKS.sub(" ", basic_clean(line))
        if line == before:
            break
    if _has_marks(line):  # written in some way that no pattern foresees
        line = line.replace("<", " ").replace("&", " ")
    return line


def _has_marks(line: str) -> bool:
    if "_of_" not in line.lower() and "&" not in line:
        return False
    tokenizer = _tokenizer()
    ids = tokenizer.encode(line)
    return tokenizer.sot_token_id in ids or tokenizer.eot_token_id in ids


def _beginning(sentence: str, max_tokens: int, count: CountTokens) -> str:
    """The longest run of whole clauses that fits; or else of whole words."""
    for ends in ([match.start() for match in _CLAUSE_END.finditer(sentence)], _word_ends(sentence)):
        best = ""
        for end in ends:
            if count(sentence[:end]) > max_tokens:
                break
            best = sentence[:end]
        if best:
            bare = best.rstrip(" ,;:-\u2013\u2014")
            return bare if bare and count(bare) <= max_tokens else best
    return ""


def _word_ends(sentence: str) -> Iterator[int]:
    """Where a cut leaves words whole, in ascending order."""
    for place, letter in enumerate(sentence):
        if letter == " " or (
            place and _CHARACTER.match(letter) and not unicodedata.combining(letter)
        ):
            yield place

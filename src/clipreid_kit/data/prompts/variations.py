"""Other words for a caption, one of them for each item and epoch."""

import hashlib
import re
from collections.abc import Mapping, Sequence

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data.prompts.templates import fill_template, template_fields

PARAPHRASES = (
    "This shows {caption}",
    "A picture of {caption}",
    "An image depicting {caption}",
    "This is {caption}",
)
"""Templates that say a caption in other words."""


def caption_variations(
    caption: str,
    *,
    synonyms: Mapping[str, Sequence[str]] | None = None,
    templates: Sequence[str] = PARAPHRASES,
    max_variations: int = 5,
) -> tuple[str, ...]:
    """List other ways to say a caption: first with synonyms, then in other templates.

    Args:
        caption: The caption.
        synonyms: Words or phrases, and what may stand for them, such as ``{"coat": ["jacket", "parka"]}``. They are
            replaced as whole words, wherever they occur, whatever their case; a capital stays one.
        templates: With the field ``{caption}``, four of them by default. The caption's first letter becomes small
            if it begins with an article.
        max_variations: Most to return, the caption itself included, >= 1.

    Returns:
        The caption, then up to two variations for each synonym's word, then one for each template; none twice.

    Raises:
        ValueError: If ``max_variations < 1``, a word or synonym is empty, or a template has not the one field.

    Example:
        >>> caption_variations("A red coat.", synonyms={"coat": ["jacket"], "at": ["near"]}, max_variations=3)
        ('A red coat.', 'A red jacket.', 'This shows a red coat.')
    """
    owner = "caption_variations"
    check_integer(owner, "max_variations", max_variations, 1)
    found = [caption]
    for word, others in (synonyms or {}).items():
        if not word.strip() or not all(other.strip() for other in others):
            raise fail(
                owner, "words and synonyms that are not empty", f"{word!r}: {list(others)!r}"
            )
        found += [_replaced(caption, word, other) for other in others[:2]]
    for template in templates:
        if template_fields(template) != ("caption",):
            raise fail(owner, "the field {caption} and no other in each template", repr(template))
        found.append(
            fill_template(
                template, {"caption": _ARTICLE.sub(lambda match: match[0].lower(), caption)}
            )
        )
    return tuple(dict.fromkeys(found))[:max_variations]


class CaptionSampler:
    """A caption for each item and epoch, drawn from its variations.

    Use it where texts shall vary as images do. Texts depend on (seed, epoch, index) alone, so that the number of
    workers and the order change nothing.

    Args:
        captions: The caption of every item, such as ``ReidDataset.captions``.
        synonyms: As for :func:`caption_variations`.
        templates: As for :func:`caption_variations`.
        max_variations: Most variations of a caption, itself included.
        seed: >= 0.

    Raises:
        ValueError: If an item has no caption, or an argument is out of range.

    Example:
        >>> sampler = CaptionSampler(["A red coat."] * 2, synonyms={"coat": ["jacket"]}, templates=(), seed=1)
        >>> [sampler.text(0, epoch) for epoch in range(4)]
        ['A red coat.', 'A red jacket.', 'A red jacket.', 'A red jacket.']
    """

    def __init__(
        self,
        captions: Sequence[str | None],
        *,
        synonyms: Mapping[str, Sequence[str]] | None = None,
        templates: Sequence[str] = PARAPHRASES,
        max_variations: int = 5,
        seed: int = 0,
    ) -> None:
        check_integer("CaptionSampler", "seed", seed, 0)
        known: dict[str, tuple[str, ...]] = {}
        self._variations: list[tuple[str, ...]] = []
        for index, caption in enumerate(captions):
            if caption is None:
                remedy = "Give every record a caption, for example with PromptTable.caption."
                raise fail(
                    "CaptionSampler", "a caption for every item", f"none for item {index}", remedy
                )
            if caption not in known:
                known[caption] = caption_variations(
                    caption, synonyms=synonyms, templates=templates, max_variations=max_variations
                )
            self._variations.append(known[caption])
        self.seed = seed

    def __len__(self) -> int:
        """Count the items."""
        return len(self._variations)

    def text(self, index: int, epoch: int) -> str:
        """Draw the text of an item.

        Args:
            index: The item.
            epoch: Number of the epoch, >= 0.

        Returns:
            One of its variations.
        """
        variations = self._variations[index]
        number = hashlib.blake2b(
            f"caption {self.seed} {epoch} {index}".encode(), digest_size=8
        ).digest()
        return variations[int.from_bytes(number, "big") % len(variations)]


_ARTICLE = re.compile(r"^(?:A|An|The)(?=\s)")


def _replaced(caption: str, word: str, other: str) -> str:
    pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
    return pattern.sub(lambda match: _in_case_of(match[0], other), caption)


def _in_case_of(found: str, other: str) -> str:
    if len(found) > 1 and found.isupper():
        return other.upper()
    return other[0].upper() + other[1:] if found[0].isupper() else other

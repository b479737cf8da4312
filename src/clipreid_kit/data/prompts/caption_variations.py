"""Vary captions by synonyms and templates, and draw one variation for each item and epoch."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final

from clipreid_kit._checks import check_integer, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.data.prompts.templates import fill_template, template_fields

PARAPHRASES = (
    "This shows {caption}",
    "A picture of {caption}",
    "An image depicting {caption}",
    "This is {caption}",
)
"""Templates that express a caption in other words."""

_ARTICLE = re.compile(r"^(?:A|An|The)(?=\s)")


def caption_variations(
    caption: str,
    *,
    synonyms: Mapping[str, Sequence[str]] | None = None,
    templates: Sequence[str] = PARAPHRASES,
    max_variations: int = 5,
) -> tuple[str, ...]:
    """List variations of a caption: first with synonyms, then in other templates.

    Args:
        caption: The caption.
        synonyms: Words or phrases and their replacements, such as ``{"coat": ["jacket",
            "parka"]}``. They are replaced as whole words, wherever they occur and regardless of
            case; a capital letter stays one.
        templates: Templates with the field ``{caption}``, four of them by default. The caption's
            first letter becomes lower case if it begins with an article.
        max_variations: Maximum number of texts, the caption itself included, >= 1.

    Returns:
        The caption, then up to two variations for each word of ``synonyms``, then one for each
        template, without repetitions.

    Raises:
        ValueError: If ``max_variations < 1``, a word or synonym is empty, a text comes instead of a
            list of synonyms, or a template does not have exactly the field ``{caption}``.

    Example:
        >>> caption_variations("A red coat.", synonyms={"coat": ["jacket"]}, max_variations=3)
        ('A red coat.', 'A red jacket.', 'This shows a red coat.')
    """
    owner = "caption_variations"
    check_integer(owner, "max_variations", max_variations, 1)
    found = [caption]

    for word, replacements in (synonyms or {}).items():
        if isinstance(replacements, str):
            remedy = f"One synonym: {{{word!r}: [{replacements!r}]}}."
            raise fail(owner, f"a list of synonyms for {word!r}", repr(replacements), remedy)
        if not all(text.strip() for text in (word, *replacements)):
            got = f"{word!r}: {list(replacements)!r}"
            raise fail(owner, "words and synonyms that are not empty", got)
        found += [_replaced(caption, word, replacement) for replacement in replacements[:2]]

    in_a_sentence = _ARTICLE.sub(lambda match: match[0].lower(), caption)
    for template in templates:
        if template_fields(template) != ("caption",):
            raise fail(owner, "the field {caption} and no other in each template", repr(template))
        found.append(fill_template(template, {"caption": in_a_sentence}))

    distinct = dict.fromkeys(found)
    return tuple(distinct)[:max_variations]


@fixed_options(not_kept=("captions", "synonyms", "templates"))
class CaptionSampler:
    """Draws one variation of its caption for each item and epoch.

    Use it to augment texts as images are augmented. A text depends only on (seed, epoch, index), so
    it does not depend on the number of workers or the order of the items.

    Args:
        captions: The caption of every item, such as ``ReidDataset.captions``.
        synonyms: As for :func:`caption_variations`.
        templates: As for :func:`caption_variations`.
        max_variations: Maximum number of variations of a caption, itself included, >= 1.
        seed: Seed of the draws, >= 0.

    Raises:
        ValueError: If an item has no caption, or an argument is out of range.

    Example:
        >>> synonyms = {"coat": ["jacket"]}
        >>> sampler = CaptionSampler(["A red coat."], synonyms=synonyms, templates=(), seed=1)
        >>> [sampler.text(0, epoch) for epoch in range(3)]
        ['A red coat.', 'A red jacket.', 'A red jacket.']
        >>> sampler
        CaptionSampler(num_items=1, max_variations=5, seed=1)
    """

    max_variations: Final[int]

    def __init__(
        self,
        captions: Sequence[str | None],
        *,
        synonyms: Mapping[str, Sequence[str]] | None = None,
        templates: Sequence[str] = PARAPHRASES,
        max_variations: int = 5,
        seed: int = 0,
    ) -> None:
        check_integer("CaptionSampler", "max_variations", max_variations, 1)
        check_integer("CaptionSampler", "seed", seed, 0)
        self.max_variations = max_variations
        self.seed = seed

        # Many items share a caption: its variations are listed once.
        known: dict[str, tuple[str, ...]] = {}
        self._variations: list[tuple[str, ...]] = []
        for index, caption in enumerate(captions):
            if caption is None:
                raise ValueError(
                    f"CaptionSampler: item {index} has no caption. "
                    "Give every record a caption, for example with PromptTable.caption."
                )
            if caption not in known:
                known[caption] = caption_variations(
                    caption, synonyms=synonyms, templates=templates, max_variations=max_variations
                )
            self._variations.append(known[caption])

    def __len__(self) -> int:
        """Count the items."""
        return len(self._variations)

    def __repr__(self) -> str:
        options = f"max_variations={self.max_variations}, seed={self.seed}"
        return f"CaptionSampler(num_items={len(self)}, {options})"

    def text(self, index: int, epoch: int) -> str:
        """Draw the text of an item.

        Args:
            index: Index of the item.
            epoch: Number of the epoch, >= 0.

        Returns:
            One of the variations of its caption.
        """
        variations = self._variations[index]
        name = f"caption {self.seed} {epoch} {index}"
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()

        return variations[int.from_bytes(digest, "big") % len(variations)]


def _replaced(caption: str, word: str, replacement: str) -> str:
    whole_word = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
    return whole_word.sub(lambda match: _in_case_of(match[0], replacement), caption)


def _in_case_of(found: str, replacement: str) -> str:
    """Write the replacement in capitals or with a capital, like the word that it replaces."""
    if len(found) > 1 and found.isupper():
        return replacement.upper()
    if found[0].isupper():
        return replacement[0].upper() + replacement[1:]

    return replacement

"""Prompt templates: a sentence with a place for learned words, found by token ids."""

import string
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.modules.pseudo_token import insert_pseudo_token

PLACEHOLDER = "tokens"
_MARK = "{tokens}"
Fields = Mapping[str, str]

# two fillers of one token each: what differs between the two token rows is the place of the learned words
_FILLERS = (("x", "q"), ("a", "z"), ("one", "two"))


class PromptEmbeddings(NamedTuple):
    """Embedded prompts, as ``towers.encode_text_embeddings(*prompts)`` takes them.

    Attributes:
        embeddings: Word embeddings (N, L, W) without positions.
        eot: Index of each row's end-of-text token (N,), on the CPU.
    """

    embeddings: Tensor
    eot: Tensor


class PromptTemplates(nn.Module):
    """Tokenised templates with a span for learned words; holds token ids only, no weights.

    :class:`IdentityPromptLearner` and :class:`PromptComposer` hold one.

    Args:
        owner: Who asks, for error texts.
        towers: Whose tokenizer to use; not kept.
        templates: One template or several; each has the placeholder ``{tokens}`` exactly once.
        fields: Words for all other placeholders, put in before tokenising; several sets of them give as many variants
            of each template.
        num_tokens: Words that the placeholder stands for.
    """

    tokens: Tensor

    def __init__(
        self,
        owner: str,
        towers: ClipTowers,
        templates: str | Sequence[str],
        fields: Fields | Sequence[Fields] | None,
        num_tokens: int,
    ) -> None:
        super().__init__()
        check_integer(owner, "the number of learned tokens", num_tokens, 1)
        templates = (templates,) if isinstance(templates, str) else tuple(templates)
        sets: tuple[Fields, ...] = (
            (fields or {},) if isinstance(fields, Mapping | None) else tuple(fields)
        )
        if not templates or not sets:
            raise fail(
                owner,
                "at least one template and one set of fields",
                f"{len(templates)} and {len(sets)}",
            )
        filled = [fill_template(owner, template, words) for template in templates for words in sets]
        rows, starts = zip(
            *(_locate(owner, towers, text, num_tokens) for text in filled), strict=True
        )
        self.texts = tuple(filled)
        self.num_tokens = num_tokens
        self.starts: tuple[int, ...] = starts
        eot = towers.end_of_text(torch.stack(rows))
        self.eots: tuple[int, ...] = tuple(int(index) for index in eot)
        length = max(self.eots) + 1 if towers.text_is_causal else towers.context_length
        # not in the state dict: the template is an argument, and a checkpoint holds what was learned
        self.register_buffer(
            "tokens", torch.stack([row[:length] for row in rows]), persistent=False
        )

    @property
    def plain_texts(self) -> tuple[str, ...]:
        """The templates without learned words: ``a photo of a person.``."""
        return tuple(" ".join(text.format(**{PLACEHOLDER: ""}).split()) for text in self.texts)

    def forward(
        self,
        towers: ClipTowers,
        learned: Float[Tensor, "n m w"],
        variant: int | Int[Tensor, " n"] = 0,
    ) -> PromptEmbeddings:
        """Put learned words into one variant, or into another for each row."""
        count = learned.shape[0]
        if isinstance(variant, int):
            if not 0 <= variant < len(self.texts):
                raise fail("prompts", f"a variant in [0, {len(self.texts)})", variant)
            length = self.eots[variant] + 1 if towers.text_is_causal else self.tokens.shape[1]
            words = towers.embed_tokens(self.tokens[variant : variant + 1, :length])
            eot = torch.full((count,), self.eots[variant])
            return PromptEmbeddings(insert_pseudo_token(words, learned, self.starts[variant]), eot)
        variant = variant.cpu().long()
        if variant.shape != (count,) or (
            count and not 0 <= int(variant.min()) <= int(variant.max()) < len(self.texts)
        ):
            raise fail("prompts", f"{count} variants in [0, {len(self.texts)})", variant.tolist())
        words = towers.embed_tokens(self.tokens[variant.to(self.tokens.device)])
        starts, eot = torch.tensor(self.starts)[variant], torch.tensor(self.eots)[variant]
        return PromptEmbeddings(insert_pseudo_token(words, learned, starts), eot)

    def extra_repr(self) -> str:
        """The templates, for ``print(module)``."""
        return f"{list(self.texts)}, num_tokens={self.num_tokens}"


def fill_template(owner: str, template: str, fields: Fields) -> str:
    """Put words into all fields but the placeholder, which stays."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise fail(owner, "a template with matching braces", f"{template!r} ({error})") from None
    names = [name for _, name, _, _ in parsed if name is not None]
    if names.count(PLACEHOLDER) != 1:
        raise fail(
            owner,
            "a template with {tokens} exactly once, where the learned words belong",
            f"{names.count(PLACEHOLDER)} of them in {template!r}",
            'Such as "A photo of a {tokens} person.".',
        )
    missing = [name for name in names if name != PLACEHOLDER and name not in fields]
    if missing:
        raise fail(
            owner, f"fields for every placeholder of {template!r}", f"none for {{{missing[0]}}}"
        )
    unused = [name for name in fields if name not in names or name == PLACEHOLDER]
    if unused:
        raise fail(
            owner, f"fields that {template!r} has", f"{unused[0]!r}", f"It has {', '.join(names)}."
        )
    filled = template.format(**{**fields, PLACEHOLDER: _MARK})
    before, _, after = filled.partition(_MARK)
    if before[-1:].isalnum() or after[:1].isalnum():
        raise _joined(owner, filled)
    return filled


def _locate(owner: str, towers: ClipTowers, text: str, num_tokens: int) -> tuple[Tensor, int]:
    """Token ids of a template with fillers, and where these begin."""
    for fillers in _FILLERS:
        sentences = [
            text.format(**{PLACEHOLDER: " ".join([filler] * num_tokens)}) for filler in fillers
        ]
        count = max(towers.count_tokens(sentence) for sentence in sentences)
        if count > towers.context_length:
            raise fail(
                owner,
                f"at most {towers.context_length} tokens, start, end and {num_tokens} learned ones included",
                f"{count} in {text!r}",
                "Shorten the template, or learn fewer tokens.",
            )
        first, second = towers.tokenize(sentences)
        places = (first != second).nonzero().flatten().tolist()
        if len(places) == num_tokens and places[-1] - places[0] == num_tokens - 1:
            return first, int(places[0])
    raise _joined(owner, text)


def _joined(owner: str, text: str) -> ValueError:
    return fail(
        owner,
        "a placeholder that stands as a word of its own",
        repr(text),
        "Put a blank before and after {tokens}: joined to letters it would be part of their word.",
    )

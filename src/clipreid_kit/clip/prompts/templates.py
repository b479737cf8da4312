"""Prompt templates: sentences with a span for learned words, found by token ids."""

import string
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.modules.pseudo_token import insert_pseudo_token

Fields = Mapping[str, str]

PLACEHOLDER = "tokens"
_MARK = "{tokens}"

# Pairs of filler words of one token each: the span of the learned words is where the token ids of
# the two filled sentences differ.
_FILLERS = (("x", "q"), ("a", "z"), ("one", "two"))


class PromptEmbeddings(NamedTuple):
    """Embedded prompts, the arguments of ``towers.encode_text_embeddings(*prompts)``.

    Attributes:
        embeddings: Word embeddings (N, L, W) without positions.
        eot: Index of each row's end-of-text token (N,), on the CPU.
    """

    embeddings: Tensor
    eot: Tensor


class PromptTemplates(nn.Module):
    """Tokenised templates with a span for learned words; holds token ids, no weights.

    :class:`IdentityPromptLearner` and :class:`PromptComposer` each hold one.

    Args:
        owner: Name for error texts.
        towers: The model whose tokenizer to use; not kept.
        templates: One template or several, each with the placeholder ``{tokens}`` exactly once.
        fields: Words for all other placeholders, inserted before tokenising. Several sets of fields
            make as many variants of each template.
        num_tokens: Number of words that the placeholder is replaced by, at least 1.
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
        sets_of_fields = _sets_of_fields(fields)
        if not templates:
            raise ValueError(f"{owner}: there is no template; pass at least one.")
        if not sets_of_fields:
            raise ValueError(f"{owner}: fields is empty; pass None for templates without fields.")

        texts: list[str] = []
        for template in templates:
            texts += [fill_template(owner, template, words) for words in sets_of_fields]

        rows: list[Tensor] = []
        starts: list[int] = []
        for text in texts:
            row, start = _locate(owner, towers, text, num_tokens)
            rows.append(row)
            starts.append(start)
        ends = towers.end_of_text(torch.stack(rows))

        self._owner = owner
        self.texts = tuple(texts)
        self.num_tokens = num_tokens
        self.starts = tuple(starts)
        self.eots = tuple(int(index) for index in ends)

        # A causal tower reads nothing behind the end of the text. The ids are not in the state
        # dict: the template is an argument, and a checkpoint holds the learned words.
        length = max(self.eots) + 1 if towers.text_is_causal else towers.context_length
        tokens = torch.stack([row[:length] for row in rows])
        self.register_buffer("tokens", tokens, persistent=False)

    @property
    def plain_texts(self) -> tuple[str, ...]:
        """The templates without learned words: ``a photo of a person.``."""
        emptied = (text.format(**{PLACEHOLDER: ""}) for text in self.texts)
        return tuple(" ".join(text.split()) for text in emptied)

    def forward(
        self,
        towers: ClipTowers,
        learned: Float[Tensor, "n m w"],
        variant: int | Int[Tensor, " n"] = 0,
    ) -> PromptEmbeddings:
        """Insert learned words into one variant, or into a variant for each row."""
        if isinstance(variant, int):
            return self._embed_one_variant(towers, learned, variant)
        return self._embed_variants(towers, learned, variant.cpu().long())

    def extra_repr(self) -> str:
        """Return the templates, for ``print(module)``."""
        return f"{list(self.texts)}, num_tokens={self.num_tokens}"

    def _embed_one_variant(
        self, towers: ClipTowers, learned: Tensor, variant: int
    ) -> PromptEmbeddings:
        """Prompts of all rows with the same variant."""
        if not 0 <= variant < len(self.texts):
            raise fail(self._owner, f"a variant in [0, {len(self.texts)})", variant)

        length = self.eots[variant] + 1 if towers.text_is_causal else self.tokens.shape[1]
        words = towers.embed_tokens(self.tokens[variant : variant + 1, :length])
        embeddings = insert_pseudo_token(words, learned, self.starts[variant])
        return PromptEmbeddings(
            embeddings,
            torch.full((learned.shape[0],), self.eots[variant], dtype=torch.int64, device="cpu"),
        )

    def _embed_variants(
        self, towers: ClipTowers, learned: Tensor, variants: Tensor
    ) -> PromptEmbeddings:
        """Prompts with a variant for each row."""
        num_rows = learned.shape[0]
        expected = f"{num_rows} variants in [0, {len(self.texts)})"
        if variants.shape != (num_rows,):
            raise fail(self._owner, expected, variants.tolist())
        if num_rows and not 0 <= int(variants.min()) <= int(variants.max()) < len(self.texts):
            raise fail(self._owner, expected, variants.tolist())

        words = towers.embed_tokens(self.tokens[variants.to(self.tokens.device)])
        starts = torch.tensor(self.starts, device="cpu")[variants]
        ends = torch.tensor(self.eots, device="cpu")[variants]
        return PromptEmbeddings(insert_pseudo_token(words, learned, starts), ends)


def fill_template(owner: str, template: str, fields: Fields) -> str:
    """Replace all placeholders but that of the learned words.

    Args:
        owner: Name for error texts.
        template: A sentence with ``{tokens}`` exactly once.
        fields: Words for all other placeholders.

    Returns:
        The sentence, with ``{tokens}`` as its only placeholder.

    Raises:
        ValueError: If placeholders and fields do not match, or ``{tokens}`` is joined to a word.
    """
    names = _placeholders(owner, template)
    if names.count(PLACEHOLDER) != 1:
        raise fail(
            owner,
            "a template with {tokens} exactly once, in place of the learned words",
            f"{names.count(PLACEHOLDER)} of them in {template!r}",
            'An example is "A photo of a {tokens} person.".',
        )
    for name in names:
        if name != PLACEHOLDER and name not in fields:
            raise ValueError(
                f"{owner}: the template {template!r} has a placeholder {{{name}}} without a field; "
                "add it to fields."
            )
    for name in fields:
        if name not in names or name == PLACEHOLDER:
            raise ValueError(
                f"{owner}: the template {template!r} has no placeholder for the field {name!r}; "
                f"it has {', '.join(names)}."
            )

    filled = template.format(**{**fields, PLACEHOLDER: _MARK})
    before, _, after = filled.partition(_MARK)
    if before[-1:].isalnum() or after[:1].isalnum():
        raise _joined(owner, filled)
    return filled


def _sets_of_fields(fields: Fields | Sequence[Fields] | None) -> tuple[Fields, ...]:
    """Sets of fields; a single empty one without fields."""
    if fields is None:
        return ({},)
    if isinstance(fields, Mapping):
        return (fields,)
    return tuple(fields)


def _placeholders(owner: str, template: str) -> list[str]:
    """Names of the placeholders of a template."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise fail(owner, "a template with matching braces", f"{template!r} ({error})") from None
    return [name for _, name, _, _ in parsed if name is not None]


def _locate(owner: str, towers: ClipTowers, text: str, num_tokens: int) -> tuple[Tensor, int]:
    """Token ids of a template with fillers, and the index of the first filler."""
    for fillers in _FILLERS:
        sentences = []
        for filler in fillers:
            words = " ".join([filler] * num_tokens)
            sentences.append(text.format(**{PLACEHOLDER: words}))
        _check_length(owner, towers, text, sentences, num_tokens)

        first, second = towers.tokenize(sentences)
        differing = (first != second).nonzero().flatten().tolist()
        if len(differing) == num_tokens and differing[-1] - differing[0] == num_tokens - 1:
            return first, int(differing[0])

    raise _joined(owner, text)


def _check_length(
    owner: str, towers: ClipTowers, text: str, sentences: Sequence[str], num_tokens: int
) -> None:
    """Raise ValueError if a filled template does not fit into the context."""
    count = max(towers.count_tokens(sentence) for sentence in sentences)
    if count > towers.context_length:
        raise ValueError(
            f"{owner}: the template {text!r} has {count} tokens, including start, end and "
            f"{num_tokens} learned ones, and the context length is {towers.context_length}; "
            "shorten the template, or learn fewer tokens."
        )


def _joined(owner: str, text: str) -> ValueError:
    """Error for a placeholder that is joined to a word."""
    return ValueError(
        f"{owner}: {{tokens}} is joined to a word in {text!r}, so it would be part of that "
        "word; put a space before and after it."
    )

"""Prompts with a pseudo word of each image: PromptSG's composed prompt."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from clipreid_kit._checks import describe, fail
from clipreid_kit.clip.prompts.templates import Fields, PromptEmbeddings, PromptTemplates
from clipreid_kit.clip.towers.clip_towers import ClipTowers

_OWNER = "PromptComposer"


class PromptComposer(nn.Module):
    r"""Puts pseudo tokens into a sentence, in the place of a word; holds the sentence's token ids and no parameters.

    "A photo of a s* person": the pseudo token stands in the token sequence, so that the text tower reads it together
    with its neighbours.

    Args:
        towers: The model whose tokenizer and word width to use; not kept.
        template: A sentence, or several, with ``{tokens}`` exactly once.
        fields: Words for other placeholders, put in before tokenising, such as ``{"aspect": "right dorsal"}``. A
            sequence of such mappings makes a variant for each (of every template), to be chosen for each image.
        num_tokens: Pseudo tokens of an image, at least 1.

    Raises:
        ValueError: If a template has no or several places for the pseudo tokens, a field without a word, or more tokens
            than the context.

    Example:
        >>> import torch
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit").eval()
        >>> aspects = [{"aspect": "right dorsal"}, {"aspect": "left palmar"}]
        >>> composer = PromptComposer(towers, "A photo of a {tokens} {aspect} hand.", fields=aspects)
        >>> prompts = composer(towers, torch.zeros(2, towers.text_width), torch.tensor([0, 1]))
        >>> towers.encode_text_embeddings(*prompts).shape
        torch.Size([2, 128])
        >>> composer.templates.plain_texts[1]
        'A photo of a left palmar hand.'

    References:
        Yang et al., A Pedestrian is Worth One Prompt (PromptSG), CVPR 2024, section 3.2.
    """

    def __init__(
        self,
        towers: ClipTowers,
        template: str | Sequence[str] = "A photo of a {tokens} person.",
        *,
        fields: Fields | Sequence[Fields] | None = None,
        num_tokens: int = 1,
    ) -> None:
        super().__init__()
        self.templates = PromptTemplates(_OWNER, towers, template, fields, num_tokens)
        self.text_width = towers.text_width
        tokens = towers.tokenize(self.templates.plain_texts)
        end = (
            int(towers.end_of_text(tokens).max()) + 1 if towers.text_is_causal else tokens.shape[1]
        )
        self.plain_tokens = tokens[:, :end]

    def forward(
        self,
        towers: ClipTowers,
        pseudo_tokens: Float[Tensor, "n *m w"],
        variant: int | Int[Tensor, " n"] = 0,
    ) -> PromptEmbeddings:
        """Embed a prompt for each image.

        Args:
            towers: The model that embeds the words of the template.
            pseudo_tokens: (N, W), or (N, M, W) for ``num_tokens`` M; in the space of the word embeddings.
            variant: Number of the variant, template by template and in each set of fields by set of fields; one for
                all images, or one for each.

        Returns:
            What ``towers.encode_text_embeddings`` takes.

        Raises:
            ValueError: If the pseudo tokens have another width or number, or there is no such variant.
        """
        tokens = pseudo_tokens[:, None] if pseudo_tokens.ndim == 2 else pseudo_tokens
        if tokens.ndim != 3 or tokens.shape[1:] != (self.templates.num_tokens, self.text_width):
            raise fail(
                _OWNER,
                f"pseudo tokens (N, {self.templates.num_tokens}, {self.text_width})",
                describe(pseudo_tokens),
                "They belong into the space of the word embeddings.",
            )
        prompts: PromptEmbeddings = self.templates(towers, tokens, variant)
        return prompts

    def encode_plain(self, towers: ClipTowers) -> Float[Tensor, "v d"]:
        """Text embeddings of the sentences without pseudo tokens (PromptSG's simplified prompt), one for each variant.

        Args:
            towers: The model.

        Returns:
            Rows that do not depend on any image: compute them once for a gallery.
        """
        return towers.encode_text(self.plain_tokens)

"""Prompts with a pseudo word for each image: PromptSG's composed prompt."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from clipreid_kit._checks import describe, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.clip.prompts.templates import Fields, PromptEmbeddings, PromptTemplates
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers

_OWNER = "PromptComposer"


@fixed_options(not_kept=("template", "fields", "num_tokens"))
class PromptComposer(nn.Module):
    r"""Insert pseudo tokens into a sentence in place of a word; holds the sentence, no parameters.

    Use it for prompts whose word is computed from each image, as in :class:`PromptSG`. In "A photo
    of a s* person" the pseudo token is part of the token sequence, so that the text tower reads it
    together with its neighbours.

    Args:
        towers: The model whose tokenizer and word width to use; not kept.
        template: A sentence, or several, with ``{tokens}`` exactly once.
        fields: Words for other placeholders, inserted before tokenising, such as
            ``{"aspect": "right dorsal"}``. A sequence of such mappings makes one variant (of every
            template) for each, to choose from for each image.
        num_tokens: Number of pseudo tokens of an image, at least 1.

    Raises:
        ValueError: If a template has no or several places for the pseudo tokens, a placeholder has
            no field, or a sentence has more tokens than the context length.

    Example:
        >>> import torch
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit").eval()
        >>> aspects = [{"aspect": "right dorsal"}, {"aspect": "left palmar"}]
        >>> template = "A photo of a {tokens} {aspect} hand."
        >>> composer = PromptComposer(towers, template, fields=aspects)
        >>> pseudo_tokens = torch.zeros(2, towers.text_width)
        >>> prompts = composer(towers, pseudo_tokens, torch.tensor([0, 1]))
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
        check_towers(_OWNER, towers)
        self.templates = PromptTemplates(_OWNER, towers, template, fields, num_tokens)
        self.text_width = towers.text_width

        tokens = towers.tokenize(self.templates.plain_texts)
        length = tokens.shape[1]
        if towers.text_is_causal:
            length = int(towers.end_of_text(tokens).max()) + 1
        self.plain_tokens = tokens[:, :length]

    def forward(
        self,
        towers: ClipTowers,
        pseudo_tokens: Float[Tensor, "n *m w"],
        variant: int | Int[Tensor, " n"] = 0,
    ) -> PromptEmbeddings:
        """Embed a prompt for each image.

        Args:
            towers: The model that embeds the words of the template.
            pseudo_tokens: Pseudo tokens (N, W), or (N, M, W) for ``num_tokens`` M, in the space of
                the word embeddings.
            variant: Number of the variant: one for all images, or one for each. Variants are
                counted template by template, and within a template by its sets of fields.

        Returns:
            Arguments of ``towers.encode_text_embeddings``.

        Raises:
            ValueError: If the pseudo tokens have another width or number, or there is no such
                variant.
        """
        tokens = pseudo_tokens[:, None] if pseudo_tokens.ndim == 2 else pseudo_tokens
        num_tokens = self.templates.num_tokens
        if tokens.ndim != 3 or tokens.shape[1:] != (num_tokens, self.text_width):
            raise fail(
                _OWNER,
                f"pseudo tokens (N, {num_tokens}, {self.text_width})",
                describe(pseudo_tokens),
                "They are in the space of the word embeddings.",
            )

        prompts: PromptEmbeddings = self.templates(towers, tokens, variant)
        return prompts

    def encode_plain(self, towers: ClipTowers) -> Float[Tensor, "v d"]:
        """Encode the sentences without pseudo tokens: PromptSG's simplified prompt.

        Args:
            towers: The model.

        Returns:
            Text embeddings (V, D), one for each variant. They depend on no image: encode them once
            for a gallery.
        """
        return towers.encode_text(self.plain_tokens)

"""Masked language modelling across modalities: guess words of a text from an image of it."""

import math
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_dense,
    check_fraction,
    check_integer,
    check_label_range,
    describe,
    fail,
)
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import at_least_float32
from clipreid_kit.modules._attention import SelfBlock

_OWNER = "MaskedLanguageHead"
IGNORED = -100


class MaskedTokens(NamedTuple):
    """Output of :func:`mask_tokens`.

    Attributes:
        tokens: The rows with some tokens replaced (N, L), for the text tower.
        targets: The original token where one was chosen, and -100 elsewhere (N, L).
    """

    tokens: Tensor
    targets: Tensor


def mask_tokens(
    tokens: Integer[Tensor, "n l"],
    maskable: Bool[Tensor, "n l"],
    mask_id: int,
    vocabulary_size: int,
    *,
    probability: float = 0.15,
    generator: torch.Generator | None = None,
) -> MaskedTokens:
    """Choose some tokens of each text to be guessed, and replace most of them.

    Use it on the captions of a batch before they go to the text tower a second time. Of the chosen
    tokens 80 % become ``mask_id``, 10 % a random token, and 10 % stay as they are, as in BERT.

    Args:
        tokens: Rows of token ids.
        maskable: Which tokens may be chosen: words, and neither start, end nor padding.
        mask_id: Token that hides a word, in [0, vocabulary_size). CLIP has none of its
            own: take one that no caption uses.
        vocabulary_size: Random tokens are drawn from [0, vocabulary_size), without ``mask_id``.
        probability: Share of the maskable tokens that is chosen, in [0, 1); 0.15 in the paper.
        generator: On the device of the tokens; ``None`` for torch's own.

    Returns:
        The replaced rows, in the dtype of the tokens, and the targets in int64.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Example:
        >>> tokens = torch.tensor([[1, 5, 6, 7, 2]])
        >>> words = (tokens != 1) & (tokens != 2)
        >>> masked = mask_tokens(tokens, words, mask_id=9, vocabulary_size=10, probability=0.5)
        >>> masked.targets[0, [0, 4]].tolist()  # start and end are never chosen
        [-100, -100]

    References:
        Devlin et al., BERT, NAACL 2019, section 3.1. Jiang and Ye, IRRA, CVPR 2023, section 3.2.
    """
    _check_masking(tokens, maskable, mask_id, vocabulary_size, probability)

    def draw() -> Tensor:
        return torch.rand(
            tokens.shape, generator=generator, dtype=torch.float32, device=tokens.device
        )

    chosen = (draw() < probability) & maskable
    kind = draw()

    # A random token other than the mask: those from the mask on are moved by one.
    random = (draw() * (vocabulary_size - 1)).long().clamp(max=vocabulary_size - 2)
    random = (random + (random >= mask_id).long()).to(tokens.dtype)

    replaced = torch.where(kind < 0.8, torch.full_like(tokens, mask_id), random)
    replaced = torch.where(chosen & (kind < 0.9), replaced, tokens)
    targets = torch.where(chosen, tokens.long(), IGNORED)
    return MaskedTokens(replaced, targets)


def _check_masking(
    tokens: Tensor, maskable: Tensor, mask_id: int, vocabulary_size: int, probability: float
) -> None:
    owner = "mask_tokens"
    check_dense(owner, "tokens", tokens)
    if tokens.ndim != 2 or tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise fail(owner, "token ids (N, L)", describe(tokens))
    if maskable.shape != tokens.shape or maskable.dtype != torch.bool:
        raise fail(owner, f"maskable as booleans {tuple(tokens.shape)}", describe(maskable))

    check_integer(owner, "vocabulary_size", vocabulary_size, 2)
    check_integer(owner, "mask_id", mask_id, 0)
    check_fraction(owner, "probability", probability)
    if mask_id >= vocabulary_size:
        raise fail(owner, f"mask_id in [0, {vocabulary_size})", mask_id)


class MaskedLanguageOutput(NamedTuple):
    """Output of :class:`MaskedLanguageHead`.

    Attributes:
        logits: Logits of the vocabulary: with targets of the K chosen places (K, C), and without
            targets of all places (N, L, C).
        loss: Mean cross-entropy of the chosen tokens; ``None`` without targets.
    """

    logits: Tensor
    loss: Tensor | None


@fixed_options(not_kept=("num_blocks", "num_heads"))
class MaskedLanguageHead(nn.Module):
    r"""Implicit relation reasoning (IRRA): guess masked words from the other words and the image.

    Use it as a second loss in training; it is not run at test time. To guess a word the towers have
    to bring patches and words together, without labels for either.

    .. math::
        h = \operatorname{Transformer}\big( \operatorname{MCA}(
        \operatorname{LN}(t), \operatorname{LN}(v), \operatorname{LN}(v)) \big), \qquad
        L = -\frac{1}{|M|} \sum_{l \in M} \ln \operatorname{softmax}(\operatorname{MLM}(h_l))_{y_l}

    with the states :math:`t` of the masked text as the queries of a multi-head cross-attention
    (MCA), the tokens :math:`v` of the image as its keys and values, and :math:`M` the masked words.

    Args:
        dim: Width D of the states of words and patches, at least 1.
        vocabulary_size: Number C of token ids, at least 2.
        num_blocks: Transformer blocks after the cross-attention, at least 0; 4 in the paper.
        num_heads: Heads of every attention; it divides ``dim``. 8 in the paper, for 512.
        visual_dim: Width of the tokens of an image. Defaults to ``dim``.

    Raises:
        ValueError: If an option is out of its range; in ``forward``, if shapes disagree or (on the
            CPU) a target is no token id.

    Example:
        >>> head = MaskedLanguageHead(dim=16, vocabulary_size=100, num_blocks=1, num_heads=2)
        >>> words, patches = torch.randn(2, 7, 16), torch.randn(2, 9, 16)
        >>> targets = torch.full((2, 7), -100)
        >>> targets[0, 3] = 42
        >>> output = head(words, patches, targets)
        >>> output.logits.shape, output.loss.shape
        (torch.Size([1, 100]), torch.Size([]))

    Relations:
        The words are ``towers.encode_text_tokens`` of :func:`mask_tokens`; the patches are
        ``towers.encode_image_levels(images, ["projected_patches"])``.

    Note:
        The logits are computed for the chosen words only: with a vocabulary of 49,408 and a context
        of 77 tokens all of them would take 15 MB for each text. Weights begin as in CLIP, with a
        standard deviation of :math:`1 / \sqrt D`, and smaller after more blocks.

    References:
        Jiang and Ye, Cross-Modal Implicit Relation Reasoning and Aligning for Text-to-Image Person
        Retrieval (IRRA), CVPR 2023, section 3.2.
    """

    dim: Final[int]
    visual_dim: Final[int]
    vocabulary_size: Final[int]

    def __init__(
        self,
        dim: int,
        vocabulary_size: int,
        *,
        num_blocks: int = 4,
        num_heads: int = 8,
        visual_dim: int | None = None,
    ) -> None:
        super().__init__()
        check_integer(_OWNER, "dim", dim, 1)
        check_integer(_OWNER, "vocabulary_size", vocabulary_size, 2)
        check_integer(_OWNER, "num_blocks", num_blocks, 0)
        check_integer(_OWNER, "num_heads", num_heads, 1)
        visual_dim = dim if visual_dim is None else visual_dim
        check_integer(_OWNER, "visual_dim", visual_dim, 1)
        if dim % num_heads:
            raise fail(_OWNER, f"num_heads to divide dim = {dim}", num_heads)

        self.dim = dim
        self.visual_dim = visual_dim
        self.vocabulary_size = vocabulary_size
        self.text_norm = nn.LayerNorm(dim)
        self.visual_norm = nn.LayerNorm(visual_dim)
        self.attention = nn.MultiheadAttention(
            dim, num_heads, kdim=visual_dim, vdim=visual_dim, batch_first=True
        )
        self.blocks = nn.ModuleList(
            SelfBlock(dim, num_heads, single=False, post_norm=False, mlp_ratio=4.0, dropout=0.0)
            for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim), nn.Linear(dim, vocabulary_size)
        )
        self._initialise(num_blocks)

    def _initialise(self, num_blocks: int) -> None:
        """Draw weights as CLIP does: smaller where a residual adds up over the blocks."""
        std = 1 / math.sqrt(self.dim)
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                continue
            is_residual = name.startswith("blocks") and (".out." in name or ".mlp.2." in name)
            depth = math.sqrt(2 * num_blocks) if is_residual else 1.0
            nn.init.normal_(parameter, std=std / depth)

    def forward(
        self,
        words: Float[Tensor, "n l d"],
        patches: Float[Tensor, "n t v"],
        targets: Integer[Tensor, "n l"] | None = None,
    ) -> MaskedLanguageOutput:
        """Guess words of each text with the help of its image.

        Args:
            words: States of the tokens of masked texts.
            patches: Tokens of the image of each text.
            targets: Token to guess at each place, -100 for none; from :func:`mask_tokens`.

        Returns:
            With targets the logits of the chosen places, in order, and their loss: zero, connected
            to the graph, if none is chosen. Without, the logits of all places.

        Raises:
            ValueError: If shapes disagree, or (on the CPU) a target is no token id.
        """
        self._check(words, patches, targets)
        visual = self.visual_norm(patches)
        states, _ = self.attention(self.text_norm(words), visual, visual, need_weights=False)
        for block in self.blocks:
            states = block(states)

        if targets is None:
            return MaskedLanguageOutput(self.head(self.norm(states)), None)

        # The places once, as numbers: to find them, the CPU waits for the device.
        chosen = (targets.flatten() != IGNORED).nonzero()[:, 0]
        chosen_states = states.flatten(0, 1).index_select(0, chosen)
        chosen_targets = targets.flatten().index_select(0, chosen).long()

        logits = self.head(self.norm(chosen_states))
        with torch.autocast(logits.device.type, enabled=False):
            total = F.cross_entropy(at_least_float32(logits), chosen_targets, reduction="sum")
        loss = (total + 0.0 * states.sum()) / max(logits.shape[0], 1)
        return MaskedLanguageOutput(logits, loss)

    def extra_repr(self) -> str:
        """Return the sizes, for ``print(module)``."""
        return (
            f"dim={self.dim}, vocabulary_size={self.vocabulary_size}, visual_dim={self.visual_dim}"
        )

    def _check(self, words: Tensor, patches: Tensor, targets: Tensor | None) -> None:
        """Raise ValueError if the arguments do not suit each other or this module."""
        check_dense(_OWNER, "words", words)
        check_dense(_OWNER, "patches", patches)
        if words.ndim != 3 or words.shape[2] != self.dim:
            raise fail(_OWNER, f"words (N, L, {self.dim})", describe(words))

        num_rows = words.shape[0]
        is_suitable = patches.ndim == 3 and patches.shape[2] == self.visual_dim
        if not is_suitable or patches.shape[0] != num_rows or patches.shape[1] == 0:
            expected = f"patches ({num_rows}, T, {self.visual_dim})"
            raise fail(_OWNER, expected, describe(patches))
        if targets is None:
            return

        check_dense(_OWNER, "targets", targets)
        if targets.shape != words.shape[:2] or targets.is_floating_point():
            raise fail(_OWNER, f"targets {tuple(words.shape[:2])}", describe(targets))
        known = torch.where(targets == IGNORED, 0, targets)
        remedy = "Take them from mask_tokens."
        check_label_range(_OWNER, known, self.vocabulary_size, remedy, "targets")

"""Language-guided interaction: a text decides where an image is attended to."""

from typing import Final, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_at_least,
    check_choice,
    check_dense,
    check_embeddings,
    check_fraction,
    check_integer,
    describe,
    fail,
)
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.modules._attention import QueryAttention, SelfBlock

_OWNER = "MultiModalInteraction"


class InteractionOutput(NamedTuple):
    """Output of :class:`MultiModalInteraction`.

    Attributes:
        embedding: The representation (N, D), for losses and retrieval.
        states: The representation after the cross-attention and after each block, each (N, D); the
            last one is ``embedding``.
        attention: Attention of the text to each visual token (N, T), the mean over the heads; rows
            sum to 1.
    """

    embedding: Tensor
    states: tuple[Tensor, ...]
    attention: Tensor


@fixed_options(not_kept=("num_self_blocks",))
class MultiModalInteraction(nn.Module):
    r"""Multimodal interaction module (PromptSG): a text embedding attends over patch tokens.

    Use it to let a sentence decide which patches form the representation of an image. A
    cross-attention, whose query is the text and whose keys and values are the patches, is followed
    by ``num_self_blocks`` transformer blocks.

    .. math:: a = \operatorname{softmax}\Big(\frac{W_q l\, (W_k X)^T}{\sqrt{d}}\Big)\, W_v X

    Options cover what the paper leaves open:

    ``sequence``
        Tokens that the blocks run over. ``"joint"``: the attended query followed by the visual
        tokens, which costs as much as the paper reports for its blocks. ``"query"``: the attended
        query alone; then a block is an MLP with a value projection, since one token has nothing to
        attend to, and costs next to nothing.
    ``readout``
        The representation: the state of the ``"query"``, or the ``"mean"`` of the states of the
        visual tokens (``"joint"`` only).
    ``residual``
        Whether the text is added to the result of the cross-attention. The printed formula has no
        residual.
    ``norm``
        LayerNorms ``"pre"`` (before each part and at the end, as in CLIP) or ``"post"`` (after each
        residual).
    ``input_norm``
        Whether text and patches pass a LayerNorm before the cross-attention.

    Args:
        dim: Width D of the text embeddings and of the representation, at least 1.
        num_self_blocks: Number of blocks after the cross-attention, at least 0; 2 in the paper.
        visual_dim: Width of the visual tokens, at least 1. Defaults to ``dim``.
        num_heads: Number of heads of every attention; it divides ``dim``.
        sequence: ``"joint"`` or ``"query"``; see above.
        readout: ``"query"`` or ``"mean"``; see above.
        residual: Whether there is a residual around the cross-attention.
        norm: ``"pre"`` or ``"post"``; see above.
        input_norm: Whether there are LayerNorms before the cross-attention.
        mlp_ratio: Width of the blocks' MLP in units of ``dim``, at least 0.
        dropout: Dropout probability of the blocks, in [0, 1).

    Raises:
        ValueError: If an option is out of its range; in ``forward``, if shapes disagree, or there
            is a single visual token: the softmax over one key is 1, so the text would have no
            effect.

    Example:
        >>> interaction = MultiModalInteraction(dim=512, visual_dim=768)
        >>> output = interaction(torch.randn(2, 512), torch.randn(2, 128, 768))
        >>> output.embedding.shape, len(output.states), output.attention.shape
        (torch.Size([2, 512]), 3, torch.Size([2, 128]))

    Note:
        Some re-implementations reverse the attention (visual queries, text keys) and weight the
        patches with the mean of softmax rows over the same axis, which is the same number for every
        patch; or they use one global vector as the only key. In neither case does the text have an
        effect.

    References:
        Yang et al., A Pedestrian is Worth One Prompt (PromptSG), CVPR 2024, section 3.3.
    """

    dim: Final[int]
    visual_dim: Final[int]
    num_heads: Final[int]
    sequence: Final[Literal["joint", "query"]]
    norm: Final[Literal["pre", "post"]]
    input_norm: Final[bool]
    mlp_ratio: Final[float]
    dropout: Final[float]

    def __init__(
        self,
        dim: int,
        num_self_blocks: int = 2,
        *,
        visual_dim: int | None = None,
        num_heads: int = 8,
        sequence: Literal["joint", "query"] = "joint",
        readout: Literal["query", "mean"] = "query",
        residual: bool = True,
        norm: Literal["pre", "post"] = "pre",
        input_norm: bool = True,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        visual_dim = dim if visual_dim is None else visual_dim
        _check_sizes(dim, visual_dim, num_heads, num_self_blocks)
        check_choice(_OWNER, "sequence", sequence, ("joint", "query"))
        check_choice(_OWNER, "readout", readout, ("query", "mean"))
        check_choice(_OWNER, "norm", norm, ("pre", "post"))
        check_at_least(_OWNER, "mlp_ratio", mlp_ratio, 0)
        check_fraction(_OWNER, "dropout", dropout)

        is_joint = sequence == "joint" and num_self_blocks > 0
        if readout == "mean" and not is_joint:
            raise ValueError(
                f'{_OWNER}: readout="mean" needs visual tokens in the blocks; use sequence="joint" '
                "with num_self_blocks of at least 1."
            )

        self.dim = dim
        self.visual_dim = visual_dim
        self.num_heads = num_heads
        self.sequence = sequence
        self.readout = readout
        self.residual = residual
        self.norm = norm
        self.input_norm = input_norm
        self.mlp_ratio = mlp_ratio
        self.dropout = dropout
        self.query_norm = _norm(dim, used=input_norm)
        self.visual_norm = _norm(visual_dim, used=input_norm)
        self.attention = QueryAttention(dim, visual_dim, num_heads)
        self.attended_norm = _norm(dim, used=norm == "post")
        self.projection = nn.Linear(visual_dim, dim) if is_joint else None
        self.blocks = nn.ModuleList()
        for _ in range(num_self_blocks):
            block = SelfBlock(
                dim,
                num_heads,
                single=not is_joint,
                post_norm=norm == "post",
                mlp_ratio=mlp_ratio,
                dropout=dropout,
            )
            self.blocks.append(block)
        self.last_norm = _norm(dim, used=norm == "pre")

    def forward(
        self, text: Float[Tensor, "n d"], visual: Float[Tensor, "n t v"]
    ) -> InteractionOutput:
        """Attend to the visual tokens of each image with its text.

        Args:
            text: Text embedding of each image.
            visual: Patch tokens of each image, at least two.

        Returns:
            The representation, its earlier states and the attention.

        Raises:
            ValueError: If shapes disagree, or there is a single visual token.
        """
        self._check(text, visual)

        tokens = self.visual_norm(visual)
        attended, attention = self.attention(self.query_norm(text), tokens)
        if self.residual:
            attended = text + attended
        state = self.attended_norm(attended)

        sequence = state[:, None]
        if self.projection is not None:
            sequence = torch.cat([sequence, self.projection(tokens)], dim=1)

        states = [state]
        for block in self.blocks:
            sequence = block(sequence)
            states.append(self._read(sequence))
        states[-1] = self.last_norm(states[-1])

        return InteractionOutput(states[-1], tuple(states), attention)

    def extra_repr(self) -> str:
        """Return the options that no submodule shows, for ``print(module)``."""
        return f"readout={self.readout!r}, residual={self.residual}"

    def _read(self, sequence: Tensor) -> Tensor:
        """Representation that the output of a block holds."""
        if self.readout == "query":
            return sequence[:, 0]
        return sequence[:, 1:].mean(dim=1)

    def _check(self, text: Tensor, visual: Tensor) -> None:
        """Raise ValueError if text and visual tokens do not suit each other or this module."""
        check_embeddings(_OWNER, "text", text)
        check_dense(_OWNER, "visual", visual)
        num_rows = text.shape[0]
        is_token_tensor = visual.ndim == 3 and visual.is_floating_point()
        if not is_token_tensor or visual.shape[0] != num_rows:
            expected = f"visual tokens ({num_rows}, T, {self.visual_dim})"
            raise fail(_OWNER, expected, describe(visual))

        if text.shape[1] != self.dim:
            raise fail(_OWNER, f"text of width {self.dim}", text.shape[1])
        if visual.shape[2] != self.visual_dim:
            raise fail(_OWNER, f"visual tokens of width {self.visual_dim}", visual.shape[2])
        if visual.shape[1] < 2:
            raise ValueError(
                f"{_OWNER}: expected at least two visual tokens, got {visual.shape[1]}. The "
                "softmax over one key is 1, so the text would have no effect; pass patch tokens, "
                "not an embedding."
            )


def _check_sizes(dim: int, visual_dim: int, num_heads: int, num_self_blocks: int) -> None:
    """Raise ValueError if a size is out of its range."""
    check_integer(_OWNER, "dim", dim, 1)
    check_integer(_OWNER, "visual_dim", visual_dim, 1)
    check_integer(_OWNER, "num_heads", num_heads, 1)
    check_integer(_OWNER, "num_self_blocks", num_self_blocks, 0)
    if dim % num_heads:
        raise fail(_OWNER, f"num_heads to divide dim = {dim}", num_heads)


def _norm(dim: int, *, used: bool) -> nn.Module:
    """LayerNorm, or nothing where it is not used."""
    return nn.LayerNorm(dim) if used else nn.Identity()

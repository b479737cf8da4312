"""Language-guided interaction: what a sentence says decides where the image is looked at."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_at_least,
    check_choice,
    check_embeddings,
    check_fraction,
    check_integer,
    describe,
    fail,
)
from clipreid_kit.modules._blocks import QueryAttention, SelfBlock

_OWNER = "MultiModalInteraction"


class InteractionOutput(NamedTuple):
    """What :class:`MultiModalInteraction` gives.

    Attributes:
        embedding: The representation (N, D), for losses and retrieval.
        states: The representation after the cross-attention and after each block, each (N, D); the last one is
            ``embedding``.
        attention: How much each visual token was looked at (N, T), the mean over the heads; rows sum to 1.
    """

    embedding: Tensor
    states: tuple[Tensor, ...]
    attention: Tensor


class MultiModalInteraction(nn.Module):
    r"""Multimodal interaction module (PromptSG): a text embedding attends over patch tokens; holds the attention.

    A cross-attention whose query is the text and whose keys and values are the patches, then ``num_self_blocks``
    transformer blocks.

    .. math:: a = \operatorname{softmax}\Big(\frac{W_q l\, (W_k X)^T}{\sqrt{d}}\Big)\, W_v X

    What the paper leaves open are options:

    ``sequence``
        What the blocks run over. ``"joint"``: the attended query followed by the visual tokens; as costly as the paper
        reports its blocks to be. ``"query"``: the attended query alone; then a block is an MLP with a value projection,
        since one token has nothing to attend to, and costs next to nothing.
    ``readout``
        What is returned: the ``"query"``'s state, or the ``"mean"`` of the visual tokens' states (``"joint"`` only).
    ``residual``
        Whether the text is added to what it attended to. The printed formula has none.
    ``norm``
        LayerNorms ``"pre"`` (before each part and at the end, as in CLIP) or ``"post"`` (after each residual).
    ``input_norm``
        Whether text and patches pass a LayerNorm before the cross-attention.

    Args:
        dim: Width of the text embeddings and of the representation.
        num_self_blocks: Blocks after the cross-attention, at least 0; 2 in the paper.
        visual_dim: Width of the visual tokens; ``None`` for ``dim``.
        num_heads: Heads of every attention; they divide ``dim``.
        sequence: ``"joint"`` or ``"query"``; see above.
        readout: ``"query"`` or ``"mean"``.
        residual: Around the cross-attention.
        norm: ``"pre"`` or ``"post"``.
        input_norm: LayerNorms before the cross-attention.
        mlp_ratio: Width of the blocks' MLP in units of ``dim``, above 0.
        dropout: Of the blocks, in [0, 1).

    Raises:
        ValueError: If an option is out of its range; in ``forward``, if shapes disagree, or there is a single visual
            token: the softmax over one key is 1, and the text could not matter.

    Example:
        >>> interaction = MultiModalInteraction(dim=512, visual_dim=768)
        >>> output = interaction(torch.randn(2, 512), torch.randn(2, 128, 768))
        >>> output.embedding.shape, len(output.states), output.attention.shape
        (torch.Size([2, 512]), 3, torch.Size([2, 128]))

    Note:
        Re-implementations reverse the attention (visual queries, text keys), and weight the patches with a mean of
        softmax rows over the same axis, which is the same number for every patch; or they give it one global vector as
        the only key. In neither case does the text take part.

    References:
        Yang et al., A Pedestrian is Worth One Prompt (PromptSG), CVPR 2024, section 3.3.
    """

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
        for name, value in {"dim": dim, "visual_dim": visual_dim, "num_heads": num_heads}.items():
            check_integer(_OWNER, name, value, 1)
        check_integer(_OWNER, "num_self_blocks", num_self_blocks, 0)
        if dim % num_heads:
            raise fail(_OWNER, f"num_heads to divide dim {dim}", num_heads)
        check_choice(_OWNER, "sequence", sequence, ("joint", "query"))
        check_choice(_OWNER, "readout", readout, ("query", "mean"))
        check_choice(_OWNER, "norm", norm, ("pre", "post"))
        check_at_least(_OWNER, "mlp_ratio", mlp_ratio, 0)
        check_fraction(_OWNER, "dropout", dropout)
        if readout == "mean" and (sequence == "query" or num_self_blocks == 0):
            raise fail(
                _OWNER,
                'readout="query" without visual tokens in the blocks',
                f"{sequence=}, {num_self_blocks=}",
            )
        self.dim = dim
        self.visual_dim = visual_dim
        self.readout = readout
        self.residual = residual
        self.query_norm = nn.LayerNorm(dim) if input_norm else nn.Identity()
        self.visual_norm = nn.LayerNorm(visual_dim) if input_norm else nn.Identity()
        self.attention = QueryAttention(dim, visual_dim, num_heads)
        self.attended_norm = nn.LayerNorm(dim) if norm == "post" else nn.Identity()
        joint = sequence == "joint" and num_self_blocks > 0
        self.projection = nn.Linear(visual_dim, dim) if joint else None
        options = {"single": not joint, "post_norm": norm == "post"}
        self.blocks = nn.ModuleList(
            SelfBlock(dim, num_heads, **options, mlp_ratio=mlp_ratio, dropout=dropout)
            for _ in range(num_self_blocks)
        )
        self.last_norm = nn.LayerNorm(dim) if norm == "pre" else nn.Identity()

    def forward(
        self, text: Float[Tensor, "n d"], visual: Float[Tensor, "n t v"]
    ) -> InteractionOutput:
        """Look at the ``visual`` tokens of each image with its ``text``."""
        self._check(text, visual)
        tokens = self.visual_norm(visual)
        attended, attention = self.attention(self.query_norm(text), tokens)
        state = self.attended_norm(text + attended if self.residual else attended)
        sequence = state[:, None]
        if self.projection is not None:
            sequence = torch.cat([sequence, self.projection(tokens)], dim=1)
        states = [state]
        for block in self.blocks:
            sequence = block(sequence)
            states.append(
                sequence[:, 0] if self.readout == "query" else sequence[:, 1:].mean(dim=1)
            )
        states[-1] = self.last_norm(states[-1])
        return InteractionOutput(states[-1], tuple(states), attention)

    def _check(self, text: Tensor, visual: Tensor) -> None:
        check_embeddings(_OWNER, "text", text)
        rows = text.shape[0]
        if visual.ndim != 3 or visual.shape[0] != rows or not visual.is_floating_point():
            raise fail(_OWNER, f"visual tokens ({rows}, T, {self.visual_dim})", describe(visual))
        for name, tensor, width in (
            ("text", text, self.dim),
            ("visual tokens", visual, self.visual_dim),
        ):
            if tensor.shape[-1] != width:
                raise fail(_OWNER, f"{name} of width {width}", tensor.shape[-1])
        if visual.shape[1] < 2:
            raise fail(
                _OWNER,
                "at least two visual tokens",
                visual.shape[1],
                "The softmax over one key is 1, so the text would not matter: give patch tokens, not an embedding.",
            )

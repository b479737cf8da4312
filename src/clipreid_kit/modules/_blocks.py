"""Transformer parts of the interaction module: attention of one query, and self-attention blocks."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit.distances import at_least_float32


class QueryAttention(nn.Module):
    r"""Multi-head attention of one query over many tokens; holds four linear layers.

    With one query the keys and values of all tokens need not be computed: :math:`q \cdot W_k x = (W_k^T q) \cdot x`,
    and :math:`\sum_t a_t W_v x_t = W_v \sum_t a_t x_t`. The same numbers, for T D instead of T D^2 operations. A bias
    of the keys would add the same to all logits, so there is none.

    Args:
        dim: Width of the query and of the output.
        token_dim: Width of the tokens.
        num_heads: Heads; they divide ``dim``.
    """

    def __init__(self, dim: int, token_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(token_dim, dim, bias=False)
        self.value = nn.Linear(token_dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, query: Float[Tensor, "n d"], tokens: Float[Tensor, "n t v"]
    ) -> tuple[Tensor, Tensor]:
        """Attended values (N, D), and the weights (N, T) as the mean over the heads."""
        heads, width = self.num_heads, query.shape[1] // self.num_heads
        key = self.key.weight.view(heads, width, -1)
        value = self.value.weight.view(heads, width, -1)
        asked = torch.einsum("nhe,hev->nhv", self.query(query).unflatten(1, (heads, width)), key)
        logits = at_least_float32(asked @ tokens.transpose(1, 2)) / math.sqrt(width)
        weights = logits.softmax(dim=2)
        seen = weights.to(tokens.dtype) @ tokens
        values = torch.einsum("nhv,hev->nhe", seen, value).flatten(1) + self.value.bias
        return self.out(values), weights.mean(dim=1)


class SelfBlock(nn.Module):
    """Self-attention and an MLP, each with a residual and a LayerNorm; over a single token the attention is its value.

    Args:
        dim: Width of the tokens.
        num_heads: Heads; they divide ``dim``.
        single: Whether there is one token only: then queries and keys would decide nothing, and are left out.
        post_norm: LayerNorm after each residual (the first Transformer) instead of before each part (CLIP).
        mlp_ratio: Width of the MLP in units of ``dim``.
        dropout: Share of the parts' outputs that is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        single: bool,
        post_norm: bool,
        mlp_ratio: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.post_norm = post_norm
        self.query = None if single else nn.Linear(dim, dim)
        self.key = None if single else nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        hidden = max(1, round(mlp_ratio * dim))
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        """Tokens of the same shape."""
        mixed: Tensor
        if self.post_norm:
            tokens = self.norm_1(tokens + self.dropout(self._attend(tokens)))
            mixed = self.norm_2(tokens + self.dropout(self.mlp(tokens)))
            return mixed
        tokens = tokens + self.dropout(self._attend(self.norm_1(tokens)))
        mixed = tokens + self.dropout(self.mlp(self.norm_2(tokens)))
        return mixed

    def _attend(self, tokens: Tensor) -> Tensor:
        values = self.value(tokens)
        if self.query is not None and self.key is not None:
            split = (self.query(tokens), self.key(tokens), values)
            query, key, value = (
                part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in split
            )
            values = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        attended: Tensor = self.out(values)
        return attended

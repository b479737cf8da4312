"""Attention layers of the interaction module: attention of one query, and self-attention blocks."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from clipreid_kit.distances import at_least_float32


class QueryAttention(nn.Module):
    r"""Multi-head attention of one query over many tokens; holds four linear layers.

    With a single query the keys and values of the tokens need not be computed:
    :math:`q \cdot W_k x = (W_k^T q) \cdot x`, and :math:`\sum_t a_t W_v x_t = W_v \sum_t a_t x_t`.
    The result is the same, for T D instead of T D^2 operations. A bias of the keys would add the
    same number to all logits, so there is none.

    Args:
        dim: Width of the query and of the output.
        token_dim: Width of the tokens.
        num_heads: Number of heads; it divides ``dim``.
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
        """Return attended values (N, D), and attention weights (N, T), the mean over the heads."""
        num_heads = self.num_heads
        head_dim = query.shape[1] // num_heads
        key_weight = self.key.weight.view(num_heads, head_dim, -1)
        value_weight = self.value.weight.view(num_heads, head_dim, -1)

        # n rows, h heads, e entries of a head, v entries of a token
        queries = self.query(query).unflatten(1, (num_heads, head_dim))
        queries_of_tokens = torch.einsum("nhe,hev->nhv", queries, key_weight)
        logits = at_least_float32(queries_of_tokens @ tokens.transpose(1, 2)) / math.sqrt(head_dim)
        weights = logits.softmax(dim=2)

        attended_tokens = weights.to(tokens.dtype) @ tokens
        values = torch.einsum("nhv,hev->nhe", attended_tokens, value_weight).flatten(1)
        values = values + self.value.bias
        return self.out(values), weights.mean(dim=1)


class SelfBlock(nn.Module):
    """Transformer block: self-attention and an MLP, each with a residual and a LayerNorm.

    Over a single token the attention is its value projection.

    Args:
        dim: Width of the tokens.
        num_heads: Number of heads; it divides ``dim``.
        single: Whether there is only one token: queries and keys would have no effect then, and are
            left out.
        post_norm: LayerNorm after each residual (the original Transformer) instead of before each
            part (CLIP).
        mlp_ratio: Width of the MLP in units of ``dim``.
        dropout: Dropout probability of the outputs of both parts.
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

        hidden_dim = max(1, round(mlp_ratio * dim))
        self.mlp = nn.Sequential(nn.Linear(dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, dim))
        self.norm_1 = nn.LayerNorm(dim)
        self.norm_2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Float[Tensor, "n t d"], valid: Bool[Tensor, "n t"] | None = None
    ) -> Float[Tensor, "n t d"]:
        """Return tokens of the same shape; ``valid`` tells which of them are attended to."""
        if self.post_norm:
            tokens = self.norm_1(tokens + self.dropout(self._attend(tokens, valid)))
            tokens = self.norm_2(tokens + self.dropout(self.mlp(tokens)))
        else:
            tokens = tokens + self.dropout(self._attend(self.norm_1(tokens), valid))
            tokens = tokens + self.dropout(self.mlp(self.norm_2(tokens)))
        return tokens

    def _attend(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """Self-attention; of a single token, its value projection."""
        values = self.value(tokens)

        if self.query is not None and self.key is not None:
            attended = F.scaled_dot_product_attention(
                self._split_heads(self.query(tokens)),
                self._split_heads(self.key(tokens)),
                self._split_heads(values),
                attn_mask=None if valid is None else _attended(valid),
            )
            values = attended.transpose(1, 2).flatten(2)

        output: Tensor = self.out(values)
        return output

    def _split_heads(self, tokens: Tensor) -> Tensor:
        """Reshape (N, T, D) to (N, heads, T, D / heads)."""
        num_rows, num_tokens, dim = tokens.shape
        head_dim = dim // self.num_heads
        return tokens.view(num_rows, num_tokens, self.num_heads, head_dim).transpose(1, 2)


def _attended(valid: Tensor) -> Tensor:
    """Mask (N, 1, 1, T) of the tokens to attend to: the valid ones, or all of a row without any."""
    is_empty = ~valid.any(dim=1, keepdim=True)  # its softmax would be NaN
    return (valid | is_empty)[:, None, None, :]

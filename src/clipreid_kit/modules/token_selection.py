"""Token selection embedding: the most informative tokens of an image or a text, pooled."""

from typing import Final, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from clipreid_kit._checks import check_dense, check_integer, check_number, describe, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import at_least_float32

_OWNER = "TokenSelection"


class SelectedTokens(NamedTuple):
    """Output of :meth:`TokenSelection.select`.

    Attributes:
        indices: Indices (N, K) of the most important tokens of each row, the most important first.
        counts: Which of them are selected (N, K): fewer in a row with fewer valid tokens.
    """

    indices: Tensor
    counts: Tensor


@fixed_options(not_kept=("hidden_dim",))
class TokenSelection(nn.Module):
    r"""Token selection embedding (TSE): a second embedding, of the most informative tokens alone.

    Use one for patches and one for words, beside the global embeddings: they fail on other pairs,
    which is what :func:`divide_pairs` lives on, and the mean of both similarities ranks better than
    either in its paper.

    .. math::
        f = \operatorname{MaxPool}_{k \in S}\big( \operatorname{MLP}(\bar x_k) + W \bar x_k \big),
        \qquad \bar x_k = x_k / \lVert x_k \rVert

    where :math:`S` are the :math:`\lfloor \rho T \rfloor` tokens, at least one, of the largest
    importance among the :math:`T` tokens of a row.

    Args:
        token_dim: Width of the tokens, at least 1.
        dim: Width D of the embedding, at least 1; 1024 in the paper.
        ratio: :math:`\rho` in (0, 1], the share of the tokens that is selected; 0.3 in the paper.
        hidden_dim: Width inside the MLP, at least 1. Defaults to half of ``dim``, at least 1.

    Raises:
        ValueError: If an option is out of its range; in ``forward``, if shapes disagree.

    Example:
        >>> selection = TokenSelection(token_dim=8, dim=16)
        >>> patches, attention = torch.randn(2, 10, 8), torch.rand(2, 10)
        >>> selection(patches, attention).shape
        torch.Size([2, 16])
        >>> selection.select(torch.tensor([[0.1, 0.7, 0.2, 0.4]])).indices  # 0.3 of four: one
        tensor([[1]])

    Relations:
        Patches and words come from ``towers.encode_image_levels`` (``projected_patches``) and
        ``towers.encode_text_tokens``.

    Note:
        The paper takes the attention of the class token, or of the end of text, in the last block
        as the importance. Any other number serves: the cosine of a token with the global embedding
        needs no attention maps. The selection itself has no gradient; the selected tokens have.
        The MLP is linear, ReLU, linear, without the BatchNorm of the authors' code, which makes an
        embedding depend on its batch. Of a text their code selects a share of the whole context,
        and so all words of a short caption; here it is a share of the valid tokens.

    References:
        Qin et al., Noisy-Correspondence Learning for Text-to-Image Person Re-identification (RDE),
        CVPR 2024, section 3.2.
    """

    token_dim: Final[int]
    dim: Final[int]

    def __init__(
        self, token_dim: int, dim: int, *, ratio: float = 0.3, hidden_dim: int | None = None
    ) -> None:
        super().__init__()
        check_integer(_OWNER, "token_dim", token_dim, 1)
        check_integer(_OWNER, "dim", dim, 1)
        check_number(_OWNER, "ratio", ratio)
        if not 0 < ratio <= 1:
            raise fail(_OWNER, "ratio in (0, 1], a share of the tokens", ratio)
        if hidden_dim is not None:
            check_integer(_OWNER, "hidden_dim", hidden_dim, 1)

        self.token_dim = token_dim
        self.dim = dim
        self.ratio = ratio
        hidden_dim = max(1, dim // 2) if hidden_dim is None else hidden_dim
        self.linear = nn.Linear(token_dim, dim)
        self.mlp = nn.Sequential(
            nn.Linear(token_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, dim)
        )

    def forward(
        self,
        tokens: Float[Tensor, "n t v"],
        importance: Float[Tensor, "n t"],
        valid: Bool[Tensor, "n t"] | None = None,
    ) -> Float[Tensor, "n d"]:
        """Embed each row by its most important tokens.

        Args:
            tokens: Tokens, without the class token.
            importance: A number for each token; larger is more important.
            valid: Which tokens count; padding, start and end of a text do not. ``None`` means all.

        Returns:
            Embeddings (N, D), not normalised; 0 for a row without valid tokens.

        Raises:
            ValueError: If shapes disagree or there are no tokens.
        """
        self._check(tokens, importance, valid)
        selected = self.select(importance, valid)

        index_NK = selected.indices[:, :, None].expand(-1, -1, tokens.shape[2])
        chosen = at_least_float32(tokens.gather(1, index_NK)).to(self.linear.weight.dtype)
        chosen = nn.functional.normalize(chosen, dim=2)

        embedded = self.mlp(chosen) + self.linear(chosen)
        pooled: Tensor = embedded.masked_fill(~selected.counts[:, :, None], -torch.inf).amax(dim=1)
        return torch.where(selected.counts.any(dim=1, keepdim=True), pooled, 0.0)

    def select(
        self, importance: Float[Tensor, "n t"], valid: Bool[Tensor, "n t"] | None = None
    ) -> SelectedTokens:
        """Find the most important tokens of each row.

        Args:
            importance: A number for each token.
            valid: Which tokens count. ``None`` means all.

        Returns:
            Their indices, most important first.
        """
        if valid is None:
            valid = torch.ones_like(importance, dtype=torch.bool)

        most = max(1, int(self.ratio * importance.shape[1]))
        ranked = importance.detach().masked_fill(~valid, -torch.inf)
        indices = ranked.topk(most, dim=1).indices

        # Of a row with fewer valid tokens fewer are selected.
        num_valid_N = valid.sum(dim=1)
        num_selected_N = (self.ratio * num_valid_N).long().clamp(min=1).minimum(num_valid_N)
        place_K = torch.arange(most, device=importance.device)
        return SelectedTokens(indices, place_K[None, :] < num_selected_N[:, None])

    def extra_repr(self) -> str:
        """Return the option that no submodule shows, for ``print(module)``."""
        return f"ratio={self.ratio}"

    def _check(self, tokens: Tensor, importance: Tensor, valid: Tensor | None) -> None:
        """Raise ValueError if the tokens do not suit this module, or their numbers do not agree."""
        check_dense(_OWNER, "tokens", tokens)
        check_dense(_OWNER, "importance", importance)
        is_token_tensor = tokens.ndim == 3 and tokens.is_floating_point() and tokens.shape[1] > 0
        if not is_token_tensor or tokens.shape[2] != self.token_dim:
            expected = f"tokens (N, T, {self.token_dim}) with at least one token"
            raise fail(_OWNER, expected, describe(tokens))

        shape = tokens.shape[:2]
        if importance.shape != shape or not importance.is_floating_point():
            raise fail(_OWNER, f"importance {tuple(shape)}", describe(importance))
        if valid is not None and (valid.shape != shape or valid.dtype != torch.bool):
            raise fail(_OWNER, f"valid as booleans {tuple(shape)}", describe(valid))

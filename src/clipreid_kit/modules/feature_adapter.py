"""A map on frozen embeddings: adapt any model to a task without running it again."""

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import check_embeddings, check_integer, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import l2_normalize

_OWNER = "FeatureAdapter"


@fixed_options(not_kept=("hidden_dim",))
class FeatureAdapter(nn.Module):
    r"""Linear map or MLP on frozen embeddings, trained by any loss on embeddings.

    Use it before any fine-tuning, on the embeddings of ``clipreid embed`` or of another program: it
    trains in seconds, because the model itself never runs, and what it reaches is the baseline that
    fine-tuning has to beat.

    .. math::
        g(x) = W \bar x + b, \qquad\text{or with } \texttt{hidden\_dim} \qquad
        g(x) = W \bar x + b + W_2 \operatorname{ReLU}(W_1 \bar x + b_1), \qquad
        \bar x = x / \lVert x \rVert

    With ``dim = in_dim`` it begins as the frozen embeddings themselves: :math:`W = I`, and
    :math:`b = 0`, :math:`W_2 = 0`. With another width :math:`W` begins with orthonormal rows or
    columns.

    Args:
        in_dim: Width of the embeddings, at least 1.
        dim: Width D of the output, at least 1. Defaults to ``in_dim``.
        hidden_dim: Width inside the MLP, at least 1. ``None`` for the linear map alone.

    Raises:
        ValueError: If a width is out of its range; in ``forward``, if the embeddings have another
            width.

    Example:
        >>> from clipreid_kit import SupConLoss
        >>> frozen, labels = torch.randn(8, 16), torch.arange(8) // 2
        >>> adapter = FeatureAdapter(16, hidden_dim=32)
        >>> torch.equal(adapter(frozen), l2_normalize(frozen))  # before training
        True
        >>> SupConLoss()(adapter(frozen), labels).backward()

    Note:
        The output is not normalised; losses and evaluators here do that. A map of few images
        overfits: hold identities out, as for any training.

    References:
        Kordopatis-Zilos et al., ILIAS: Instance-Level Image retrieval At Scale, CVPR 2025, section
        5 (linear adaptation of foundation models).
    """

    in_dim: Final[int]
    dim: Final[int]

    def __init__(
        self, in_dim: int, dim: int | None = None, *, hidden_dim: int | None = None
    ) -> None:
        super().__init__()
        dim = in_dim if dim is None else dim
        check_integer(_OWNER, "in_dim", in_dim, 1)
        check_integer(_OWNER, "dim", dim, 1)
        if hidden_dim is not None:
            check_integer(_OWNER, "hidden_dim", hidden_dim, 1)

        self.in_dim = in_dim
        self.dim = dim
        self.linear = nn.Linear(in_dim, dim)
        self.mlp = None
        if hidden_dim is not None:
            self.mlp = nn.Sequential(
                nn.Linear(in_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, dim)
            )
        self._begin_as_frozen()

    @torch.no_grad()
    def _begin_as_frozen(self) -> None:
        if self.dim == self.in_dim:
            self.linear.weight.copy_(torch.eye(self.dim))
        else:
            nn.init.orthogonal_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

        if self.mlp is not None:
            for parameter in self.mlp[2].parameters():
                nn.init.zeros_(parameter)

    def forward(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """Map embeddings.

        Args:
            embeddings: Frozen embeddings; L2-normalised here.

        Returns:
            Embeddings (N, D), not normalised; no rows for no rows.

        Raises:
            ValueError: If they have another width.
        """
        check_embeddings(_OWNER, "embeddings", embeddings)
        if embeddings.shape[1] != self.in_dim:
            raise fail(_OWNER, f"embeddings of width {self.in_dim}", f"{embeddings.shape[1]}")

        unit = l2_normalize(embeddings)
        mapped: Tensor = self.linear(unit)
        return mapped if self.mlp is None else mapped + self.mlp(unit)

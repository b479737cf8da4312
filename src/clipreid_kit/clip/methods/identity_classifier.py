"""Linear identity classifier."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_at_least, check_integer
from clipreid_kit._fixed_options import fixed_options

_OWNER = "IdentityClassifier"


@fixed_options(not_kept=("dim", "num_identities", "std"))
class IdentityClassifier(nn.Module):
    """Linear classifier over identities, without a bias.

    Use it behind a BNNeck, whose output has no shift that a bias could correct. It is called like
    :class:`ArcFaceHead`, so that either can be the ``classifier`` of an :class:`IdentityBranch`.

    Args:
        dim: Width D of the embeddings, at least 1.
        num_identities: Number of identities C, at least 1.
        std: Standard deviation of the initial weights, at least 0; CLIP-ReID and the strong
            baselines use 0.001.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> IdentityClassifier(8, 100)(torch.randn(4, 8)).shape
        torch.Size([4, 100])
    """

    def __init__(self, dim: int, num_identities: int, std: float = 0.001) -> None:
        super().__init__()
        check_integer(_OWNER, "dim", dim, 1)
        check_integer(_OWNER, "num_identities", num_identities, 1)
        check_at_least(_OWNER, "std", std, 0)

        self.weight = nn.Parameter(torch.randn(num_identities, dim) * std)

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"] | None = None
    ) -> Tensor:
        """Return logits (N, C). The labels are ignored; heads with a margin need them."""
        del labels
        return F.linear(embeddings, self.weight)

    def extra_repr(self) -> str:
        """Return the sizes, for ``print(module)``."""
        return f"dim={self.weight.shape[1]}, num_identities={self.weight.shape[0]}"

"""Self-supervision of image towers: SimCLR's contrast of augmented views, behind a projection."""

from typing import Final

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_embeddings, check_integer, check_positive, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import at_least_float32
from clipreid_kit.distributed import errors_on_all_ranks, gather_batch
from clipreid_kit.losses.supcon import supcon_loss

_OWNER = "SelfSupervisionLoss"


@fixed_options(not_kept=("hidden_dim", "out_dim"))
class SelfSupervisionLoss(nn.Module):
    r"""SimCLR's loss: views of one image agree, those of all other images are negatives.

    Use it beside losses of images and captions, on batches with two or more augmented views of each
    image, as :class:`MultiViewTransform` makes them. It asks for no label: two images of one person
    are negatives of each other, which is why it acts on a projection and not on the embeddings
    themselves.

    .. math::
        z = W_2 \max(0, W_1 f + b_1) + b_2, \qquad
        \ell_{ij} = -\ln \frac{e^{\cos(z_i, z_j) / \tau}}
            {\sum_{k \ne i} e^{\cos(z_i, z_k) / \tau}}

    for the views i and j of an image; the loss is the mean over all such ordered pairs.

    Args:
        dim: Width D of the embeddings, at least 1.
        hidden_dim: Width inside the projection, at least 1. Defaults to D.
        out_dim: Width of the projection, at least 1; 128 in SimCLR.
        temperature: :math:`\tau > 0` in units of cosine similarity; 0.1 in TBPS-CLIP.
        distributed: Gather the projections of all ranks first.

    Raises:
        ValueError: If an option is out of its range; in ``forward``, if shapes disagree.

    Example:
        >>> import torch
        >>> loss = SelfSupervisionLoss(dim=8)
        >>> image_ids = torch.tensor([0, 0, 1, 1])  # two views of each of two images
        >>> loss(torch.randn(4, 8), image_ids).shape
        torch.Size([])

    Relations:
        ``supcon_loss(projections, image_ids)`` with the image as the identity: NT-Xent of SimCLR
        where each image has two views.

    Note:
        A row without another view of its image adds nothing; if no row has one, the loss is zero,
        connected to the graph. Give this module's parameters to the optimiser.

    References:
        Chen et al., A Simple Framework for Contrastive Learning of Visual Representations (SimCLR),
        ICML 2020, eq. 1. Mu et al., SLIP, ECCV 2022 (beside captions). Cao et al., An Empirical
        Study of CLIP for Text-based Person Search (TBPS-CLIP), AAAI 2024.
    """

    dim: Final[int]

    def __init__(
        self,
        dim: int,
        *,
        hidden_dim: int | None = None,
        out_dim: int = 128,
        temperature: float = 0.1,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_integer(_OWNER, "dim", dim, 1)
        check_integer(_OWNER, "out_dim", out_dim, 1)
        hidden_dim = dim if hidden_dim is None else hidden_dim
        check_integer(_OWNER, "hidden_dim", hidden_dim, 1)
        check_positive(_OWNER, "temperature", temperature)

        self.dim = dim
        self.temperature = temperature
        self.distributed = distributed
        self.projection = nn.Sequential(
            nn.Linear(dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, out_dim)
        )

    def forward(
        self, embeddings: Float[Tensor, "n d"], image_ids: Integer[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Compute the loss of a batch of views.

        Args:
            embeddings: Embeddings of the views, before any projection.
            image_ids: Number of the image that each row is a view of; on several ranks, of all
                their images.
        """
        with errors_on_all_ranks(_OWNER, 2, distributed=self.distributed):
            check_embeddings(_OWNER, "embeddings", embeddings)
            if embeddings.shape[1] != self.dim:
                raise fail(_OWNER, f"embeddings of width {self.dim}", embeddings.shape[1])

        projections = self._project(at_least_float32(embeddings))
        if self.distributed:
            projections, image_ids = gather_batch(
                _OWNER, projections, image_ids, options=(self.extra_repr(),)
            )
        return supcon_loss(projections, image_ids, temperature=self.temperature)

    def _project(self, rows: Tensor) -> Tensor:
        """Apply the projection outside autocast, in the precision of rows and weights."""
        dtype = torch.promote_types(rows.dtype, next(self.projection.parameters()).dtype)
        with torch.autocast(rows.device.type, enabled=False):
            projected = rows.to(dtype)
            for layer in self.projection:
                if isinstance(layer, nn.Linear):
                    weight, bias = layer.weight.to(dtype), layer.bias.to(dtype)
                    projected = nn.functional.linear(projected, weight, bias)
                else:
                    projected = layer(projected)
            return projected

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return (
            f"dim={self.dim}, hidden_dim={self.projection[0].out_features}, "
            f"out_dim={self.projection[2].out_features}, temperature={self.temperature}, "
            f"distributed={self.distributed}"
        )

"""Contrast with one prototype for each cluster and camera, kept in a memory (CAP)."""

from typing import Final

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_at_least,
    check_choice,
    check_embeddings,
    check_fraction,
    check_integer,
    check_label_range,
    check_labels,
    check_positive,
    describe,
    fail,
)
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import dot_product, l2_normalize
from clipreid_kit.distributed import errors_on_all_ranks, gather_batch
from clipreid_kit.losses._engine.argument_checks import check_changes_state_once
from clipreid_kit.losses.prototype_memory import PrototypeMemoryLoss, Update

_OWNER = "CameraPrototypeLoss"


@fixed_options(not_kept=("dim", "momentum", "update", "persistent"))
class CameraPrototypeLoss(nn.Module):
    r"""Contrast with a prototype of each cluster *in each camera*, within and across cameras.

    Use it in place of :class:`PrototypeMemoryLoss` where labels are clusters and images come from
    several cameras: an identity looks different in each camera, and a cluster that mixes them has a
    mean that is none of them. With :math:`c_{y,a}` the prototype of cluster :math:`y` in camera
    :math:`a`, a row of cluster :math:`y_i` and camera :math:`a_i` has the terms

    .. math::
        \ell^{intra}_i = -\log \frac{\exp(z_i \cdot c_{y_i, a_i} / \tau)}
        {\sum_{k} \exp(z_i \cdot c_{k, a_i} / \tau)}
        \qquad
        \ell^{inter}_i = -\frac{1}{|P_i|} \sum_{p \in P_i}
        \log \frac{\exp(z_i \cdot c_p / \tau)}{\sum_{u \in P_i \cup Q_i} \exp(z_i \cdot c_u / \tau)}

    where :math:`P_i` are the prototypes of its cluster in the other cameras, and :math:`Q_i` the
    ``num_negatives`` prototypes of other clusters, in any camera, that are most similar to it. With
    :math:`B_a` the rows of camera :math:`a` in the batch, each of the loss's terms is the sum over
    cameras of a mean:

    .. math::
        L = \sum_a \frac{1}{|B_a|} \sum_{i \in B_a}
            \big(\ell^{intra}_i + \lambda\, \ell^{inter}_i\big)

    In training mode each call then moves the prototypes of the rows' clusters and cameras, as
    :class:`PrototypeMemoryLoss` does. In ``eval()`` mode nothing moves.

    A prototype that was never initialised and not seen yet is left out everywhere; a row without
    its own has no loss, and one whose cluster no other camera has seen no second term.

    Args:
        dim: Width D of the embeddings.
        num_identities: Number of clusters C; labels are in [0, ``num_identities``).
        num_cameras: Number of cameras A; cameras are in [0, ``num_cameras``). The memory has C A
            rows, those of pairs that do not occur among them. A label or camera out of range is a
            ``ValueError`` on the CPU, and the device's own assertion elsewhere.
        temperature: :math:`\tau > 0`, in units of cosine similarity.
        momentum: In [0, 1), the share of a prototype that is kept in an update.
        num_negatives: Size of :math:`Q_i`, at least 1; fewer where there are fewer.
        inter_weight: :math:`\lambda \ge 0`.
        update: ``"each"``, ``"hardest"`` or ``"mean"``, as for :class:`PrototypeMemoryLoss`.
        distributed: Take the means over the rows of all ranks, and update with all of them.
        persistent: Whether the memory is in the ``state_dict``, likewise.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> loss = CameraPrototypeLoss(2, num_identities=2, num_cameras=2, temperature=1.0)
        >>> rows, labels = torch.eye(2)[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 1])
        >>> cameras = torch.tensor([0, 1, 0, 1])
        >>> loss.initialize(rows, labels, cameras)
        >>> # in each camera: ln(1 + e) - 1, and half of ln(e + 2) - 1, against two negatives
        >>> loss(rows, labels, cameras)
        tensor(1.1780)

    Note:
        The paper prints a sum over rows for the second term; its code takes means by camera for
        both, as here. Its code also counts the row's own prototype among the positives.

    References:
        Wang et al., Camera-aware Proxies for Unsupervised Person Re-Identification, AAAI 2021,
        eq. 4 to 8 (temperature 0.07, momentum 0.2, 50 negatives, weight 0.5). Chen et al., ICE:
        Inter-instance Contrastive Encoding, ICCV 2021, uses the same two kinds of prototypes.
    """

    num_cameras: Final[int]

    def __init__(
        self,
        dim: int,
        num_identities: int,
        num_cameras: int,
        *,
        temperature: float = 0.07,
        momentum: float = 0.2,
        num_negatives: int = 50,
        inter_weight: float = 0.5,
        update: Update = "each",
        distributed: bool = False,
        persistent: bool = True,
    ) -> None:
        super().__init__()
        check_integer(_OWNER, "dim", dim, 1)
        check_integer(_OWNER, "num_identities", num_identities, 1)
        check_integer(_OWNER, "num_cameras", num_cameras, 1)
        check_integer(_OWNER, "num_negatives", num_negatives, 1)
        check_positive(_OWNER, "temperature", temperature)
        check_fraction(_OWNER, "momentum", momentum)
        check_choice(_OWNER, "update", update, ("each", "hardest", "mean"))
        check_at_least(_OWNER, "inter_weight", inter_weight, 0)

        self.num_cameras = num_cameras
        self.num_negatives = num_negatives
        self.inter_weight = inter_weight
        self.memory = PrototypeMemoryLoss(
            dim,
            num_identities * num_cameras,
            temperature=temperature,
            momentum=momentum,
            update=update,
            distributed=distributed,
            persistent=persistent,
        )

    @property
    def temperature(self) -> float:
        """Temperature, which the memory keeps."""
        return self.memory.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.memory.temperature = value

    @property
    def distributed(self) -> bool:
        """Whether rows of all ranks count, which the memory keeps."""
        return self.memory.distributed

    @distributed.setter
    def distributed(self, value: bool) -> None:
        self.memory.distributed = value

    @property
    def num_identities(self) -> int:
        """Number of clusters."""
        return self.memory.prototypes.shape[0] // self.num_cameras

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"],
        cameras: Integer[Tensor, " n"],
    ) -> Float[Tensor, ""]:
        """Compute the loss of the rows that have a prototype, then update the memory.

        If no row has one, the loss is zero, connected to the graph.
        """
        if self.training:
            check_changes_state_once(_OWNER)
        with errors_on_all_ranks(_OWNER, 3, distributed=self.distributed):
            self._check_rows(embeddings, labels, cameras)
        labels, cameras = labels.long(), cameras.long()

        values, known = self._losses_of_rows(embeddings, labels, cameras)
        of_values = cameras
        if self.distributed:
            options = self.extra_repr(), self.memory.extra_repr()
            values, known, of_values = gather_batch(
                _OWNER, values, known.float(), cameras, options=options
            )
        loss = _sum_of_camera_means(values, known.to(values.dtype), of_values, self.num_cameras)

        if self.training:
            self.memory.move(embeddings.detach(), self._places(labels, cameras))
        return loss

    @torch.no_grad()
    def initialize(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"],
        cameras: Integer[Tensor, " n"],
        *,
        num_identities: int | None = None,
    ) -> None:
        """Replace the whole memory by the means of normalised rows.

        Args:
            embeddings: Rows of the training set, from the current model, without outliers.
            labels: Cluster of each row.
            cameras: Camera of each row.
            num_identities: New number of clusters; ``None`` keeps it.

        Raises:
            ValueError: If shapes disagree or (on the CPU) a label or camera is out of range.
        """
        count = self.num_identities if num_identities is None else num_identities
        check_integer(_OWNER, "num_identities", count, 1)
        with errors_on_all_ranks(_OWNER, 2, distributed=self.distributed):
            self._check_rows(embeddings, labels, cameras, num_identities=count)

        places = self._places(labels.long(), cameras.long())
        self.memory.initialize(embeddings, places, num_identities=count * self.num_cameras)

    def _places(self, labels: Tensor, cameras: Tensor) -> Tensor:
        """Row of the memory for each pair of a cluster and a camera."""
        return labels * self.num_cameras + cameras

    def _losses_of_rows(
        self, embeddings: Tensor, labels: Tensor, cameras: Tensor
    ) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """Loss of each row, zero without a prototype of its own; and whether it has that."""
        grid = self.num_identities, self.num_cameras
        with torch.autocast(embeddings.device.type, enabled=False):
            rows = l2_normalize(embeddings)
            prototypes = self.memory.prototypes.to(
                rows.dtype, copy=True
            )  # it moves before backward
            logits_NCA = (dot_product(rows, prototypes) / self.temperature).view(-1, *grid)

            filled_CA = self.memory.filled.view(grid)
            known_N = filled_CA[labels, cameras]
            intra_N = _intra_camera(logits_NCA, labels, cameras, filled_CA, known_N)
            inter_N = _inter_camera(logits_NCA, labels, cameras, filled_CA, self.num_negatives)
            return torch.where(known_N, intra_N + self.inter_weight * inter_N, 0.0), known_N

    def _check_rows(
        self,
        embeddings: Tensor,
        labels: Tensor,
        cameras: Tensor,
        num_identities: int | None = None,
    ) -> None:
        dim, device = self.memory.prototypes.shape[1], self.memory.prototypes.device
        check_embeddings(_OWNER, "embeddings", embeddings)
        for name, numbers in (("labels", labels), ("cameras", cameras)):
            check_labels(_OWNER, name, numbers, embeddings.shape[0], embeddings.device)

        if embeddings.shape[1] != dim or embeddings.device != device:
            raise fail(
                _OWNER,
                f"embeddings of width {dim} on {device}",
                describe(embeddings),
                "Construct the memory with the model's width, and move it with .to().",
            )

        remedy = "num_identities counts all clusters; leave out outliers."
        check_label_range(_OWNER, labels, num_identities or self.num_identities, remedy)
        remedy = "num_cameras counts all cameras of the training set."
        check_label_range(_OWNER, cameras, self.num_cameras, remedy, name="cameras")

    def extra_repr(self) -> str:
        """Sizes and options for ``print(module)``."""
        return (
            f"dim={self.memory.prototypes.shape[1]}, num_identities={self.num_identities}, "
            f"num_cameras={self.num_cameras}, temperature={self.temperature}, "
            f"num_negatives={self.num_negatives}, inter_weight={self.inter_weight}, "
            f"distributed={self.distributed}"
        )


def _intra_camera(
    logits_NCA: Tensor, labels: Tensor, cameras: Tensor, filled_CA: Tensor, known_N: Tensor
) -> Tensor:
    """Cross-entropy over the prototypes of the row's camera."""
    every_N = torch.arange(len(labels), device=labels.device)
    logits_NC = logits_NCA[every_N, :, cameras]

    # Without any prototype of the camera all logits would be -inf, and their softmax 0 / 0.
    left_out_NC = ~filled_CA.T[cameras] & known_N[:, None]
    log_shares_NC = logits_NC.masked_fill(left_out_NC, -torch.inf).log_softmax(dim=1)
    return -log_shares_NC[every_N, labels]


def _inter_camera(
    logits_NCA: Tensor, labels: Tensor, cameras: Tensor, filled_CA: Tensor, num_negatives: int
) -> Tensor:
    """Mean cross-entropy over the other cameras' prototypes of the row's cluster, and negatives."""
    num_identities, num_cameras = filled_CA.shape
    every_N = torch.arange(len(labels), device=labels.device)
    own_NA = logits_NCA[every_N, labels]

    is_own_camera_NA = cameras[:, None] == torch.arange(num_cameras, device=cameras.device)
    is_positive_NA = filled_CA[labels] & ~is_own_camera_NA
    has_positive_N = is_positive_NA.any(dim=1)
    positives_NA = own_NA.masked_fill(~is_positive_NA, -torch.inf)

    is_own_NC = labels[:, None] == torch.arange(num_identities, device=labels.device)
    is_negative_NCA = filled_CA & ~is_own_NC[:, :, None]
    others_NX = logits_NCA.masked_fill(~is_negative_NCA, -torch.inf).flatten(1)
    count = min(num_negatives, others_NX.shape[1])
    negatives_NQ = others_NX.topk(count, dim=1).values

    # A row without positives has none of the term; zeros keep it from being 0 / 0.
    compared = torch.cat([positives_NA, negatives_NQ], dim=1)
    compared = torch.where(has_positive_N[:, None], compared, 0.0)
    total_N1 = compared.logsumexp(dim=1, keepdim=True)

    losses_NA = torch.where(is_positive_NA, total_N1 - own_NA, 0.0)
    return losses_NA.sum(dim=1) / is_positive_NA.sum(dim=1).clamp(min=1)


def _sum_of_camera_means(
    values: Tensor, known: Tensor, cameras: Tensor, num_cameras: int
) -> Float[Tensor, ""]:
    """Sum over the cameras of the mean value of their rows that have one."""
    is_camera_NA = cameras[:, None] == torch.arange(num_cameras, device=cameras.device)
    weights_NA = is_camera_NA * known[:, None]
    weights_NA = weights_NA / weights_NA.sum(dim=0).clamp(min=1)
    return (values * weights_NA.sum(dim=1)).sum()

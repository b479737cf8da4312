"""Identity loss: cross entropy of logits, with fixed or adaptive smoothing and a focal weight."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_at_least,
    check_embeddings,
    check_fraction,
    check_label_range,
    check_labels,
)
from clipreid_kit.distances import at_least_float32
from clipreid_kit.distributed import errors_on_all_ranks, gather_batch
from clipreid_kit.losses._engine.pair_values import Reduction, check_reduction


def identity_loss(
    logits: Float[Tensor, "n c"],
    labels: Integer[Tensor, " n"],
    *,
    label_smoothing: float = 0.0,
    adaptive_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    reduction: Reduction = "mean",
) -> Float[Tensor, " *n"]:
    r"""Cross entropy of an identity classifier, with smoothed targets and weights of hard rows.

    Use it with the logits of any classifier or head. ``label_smoothing`` is the same for all rows.
    ``adaptive_smoothing`` smooths a row the more, the surer the classifier is of it, so that rows
    which are not learned yet keep a sharp target. ``focal_gamma`` weighs down rows that are right
    already.

    .. math::
        \ell_i = (1 - p_{i y_i})^\gamma \Big( -(1 - \varepsilon_i) \ln p_{i y_i}
            - \frac{\varepsilon_i}{C} \sum_j \ln p_{ij} \Big), \qquad
        \varepsilon_i = \varepsilon \ \text{or}\ \alpha\, p_{i y_i}

    Args:
        logits: Logits of all identities.
        labels: Identity of each row, in [0, C).
        label_smoothing: :math:`\varepsilon` in [0, 1).
        adaptive_smoothing: :math:`\alpha` in [0, 1), in place of ``label_smoothing``; fast-reid
            uses 0.2. It carries no gradient.
        focal_gamma: :math:`\gamma \ge 0`; 2 in the paper. Its factor carries a gradient.
        reduction: ``"mean"``, or ``"none"`` for the loss of each row.

    Returns:
        Mean over the rows; zero, connected to the graph, for no rows. With ``reduction="none"`` the
        losses (N,).

    Raises:
        ValueError: If shapes disagree, both kinds of smoothing are given, or an option is out of
            its range.

    Example:
        >>> logits, labels = torch.tensor([[0.0, 0.0]]), torch.tensor([0])
        >>> identity_loss(logits, labels, focal_gamma=2.0)  # 0.5 x 0.5 x ln 2
        tensor(0.1733)

    Relations:
        Without ``adaptive_smoothing`` and ``focal_gamma`` it is ``F.cross_entropy``.

    References:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 4. Adaptive smoothing is
        fast-reid's, without a paper: He et al., FastReID, 2020.
    """
    owner = "identity_loss"
    check_embeddings(owner, "logits", logits)
    check_labels(owner, "labels", labels, logits.shape[0], logits.device)
    check_label_range(owner, labels, logits.shape[1])
    check_identity_options(owner, label_smoothing, adaptive_smoothing, focal_gamma)
    check_reduction(owner, reduction)

    with torch.autocast(logits.device.type, enabled=False):
        loss_N = _row_losses(
            at_least_float32(logits),
            labels.long(),
            label_smoothing,
            adaptive_smoothing,
            focal_gamma,
        )

    if reduction == "none":
        return loss_N
    return loss_N.sum() / max(loss_N.shape[0], 1)


def _row_losses(
    logits_NC: Tensor, labels_N: Tensor, smoothing: float, adaptive: float, gamma: float
) -> Tensor:
    if adaptive == 0 and gamma == 0:
        return F.cross_entropy(logits_NC, labels_N, reduction="none", label_smoothing=smoothing)

    log_probability_NC = logits_NC.log_softmax(dim=1)
    log_target_N = log_probability_NC.gather(1, labels_N[:, None])[:, 0]

    smoothing_N = adaptive * log_target_N.exp().detach() if adaptive > 0 else smoothing
    uniform_N = log_probability_NC.mean(dim=1)
    loss_N = -(1 - smoothing_N) * log_target_N - smoothing_N * uniform_N
    if gamma == 0:
        return loss_N

    # A root has an infinite slope at 0, where the row is right beyond doubt.
    wrong_N = (-log_target_N.expm1()).clamp(min=torch.finfo(loss_N.dtype).tiny)
    return wrong_N.pow(gamma) * loss_N


def check_identity_options(
    owner: str, label_smoothing: float, adaptive_smoothing: float, focal_gamma: float
) -> None:
    """Require options in their ranges, and one kind of smoothing."""
    check_fraction(owner, "label_smoothing", label_smoothing)
    check_fraction(owner, "adaptive_smoothing", adaptive_smoothing)
    check_at_least(owner, "focal_gamma", focal_gamma, 0)
    if label_smoothing > 0 and adaptive_smoothing > 0:
        raise ValueError(
            f"{owner}: adaptive_smoothing takes the place of label_smoothing; set one of them to 0."
        )


class IdentityLoss(nn.Module):
    """Module of :func:`identity_loss`; it holds the options and has no parameters.

    Args:
        label_smoothing: In [0, 1).
        adaptive_smoothing: In [0, 1), in place of ``label_smoothing``; 0.2 is usual.
        focal_gamma: At least 0; 2 is usual.
        reduction: ``"mean"``, or ``"none"`` for the loss of each row.
        distributed: Gather the losses of the rows of all ranks (not their logits).

    Raises:
        ValueError: If an option is out of its range, or both kinds of smoothing are given.

    Example:
        >>> IdentityLoss(focal_gamma=2.0)(torch.tensor([[0.0, 0.0]]), torch.tensor([0]))
        tensor(0.1733)
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        *,
        adaptive_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        reduction: Reduction = "mean",
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_identity_options("IdentityLoss", label_smoothing, adaptive_smoothing, focal_gamma)
        check_reduction("IdentityLoss", reduction)

        self.label_smoothing = label_smoothing
        self.adaptive_smoothing = adaptive_smoothing
        self.focal_gamma = focal_gamma
        self.reduction: Reduction = reduction
        self.distributed = distributed

    def forward(
        self, logits: Float[Tensor, "n c"], labels: Integer[Tensor, " n"]
    ) -> Float[Tensor, " *n"]:
        """Compute :func:`identity_loss`."""
        owner = "IdentityLoss"
        with errors_on_all_ranks(owner, 1, distributed=self.distributed):
            losses = identity_loss(
                logits,
                labels,
                label_smoothing=self.label_smoothing,
                adaptive_smoothing=self.adaptive_smoothing,
                focal_gamma=self.focal_gamma,
                reduction="none",
            )

        if self.distributed:
            options = (self.extra_repr(), logits.shape[1])
            (losses,) = gather_batch(owner, losses, options=options)

        if self.reduction == "none":
            return losses
        return losses.sum() / max(losses.shape[0], 1)

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return (
            f"label_smoothing={self.label_smoothing}, "
            f"adaptive_smoothing={self.adaptive_smoothing}, focal_gamma={self.focal_gamma}, "
            f"reduction={self.reduction!r}, distributed={self.distributed}"
        )

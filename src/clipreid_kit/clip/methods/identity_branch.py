"""Identity branch: neck, classifier and smoothed cross-entropy."""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_fraction, check_label_range, check_labels
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.clip.methods.identity_classifier import IdentityClassifier
from clipreid_kit.distributed import errors_on_all_ranks
from clipreid_kit.losses.arcface import ArcFaceLoss
from clipreid_kit.losses.cosface import CosFaceLoss
from clipreid_kit.losses.identity import IdentityLoss, check_identity_options
from clipreid_kit.modules import BNNeck

_OWNER = "IdentityBranch"

ClassifierFactory = Callable[[int, int], nn.Module]


class IdentityBranchOutput(NamedTuple):
    """Output of :class:`IdentityBranch`.

    Attributes:
        pre_neck: The features as given (N, D): for metric losses.
        post_neck: The features after the neck (N, D'); the same as ``pre_neck`` without a neck.
        logits: Logits of the identities (N, C); ``None`` without labels or without a classifier,
            and where the classifier is a loss.
        loss: Cross-entropy of the logits, or the classifier's own loss; ``None`` without labels or
            without a classifier.
    """

    pre_neck: Tensor
    post_neck: Tensor
    logits: Tensor | None
    loss: Tensor | None


@fixed_options(
    not_kept=(
        "dim",
        "num_identities",
        "use_neck",
        "reduced_dim",
        "label_smoothing",
        "adaptive_smoothing",
        "focal_gamma",
        "sync_neck",
    )
)
class IdentityBranch(nn.Module):
    r"""Identity classification of embeddings: a neck, dropout, a classifier and its cross-entropy.

    :class:`ClipBaseline`, :class:`ClipReID` and :class:`PromptSG` each build one, or one per level,
    by the factory that is their argument ``identity``. Change its options with
    ``functools.partial``::

        identity = partial(IdentityBranch, classifier=ArcFaceHead, label_smoothing=0.0)
        model = ClipBaseline(towers, 751, identity=identity)

    .. math::
        L = \operatorname{CE}_\varepsilon\big(h(\operatorname{BN}(f)), y\big)

    Args:
        dim: Width D of the features, at least 1.
        num_identities: Number of identities C, labelled from 0. ``None`` builds the neck alone, for
            a method whose identity loss has no weight.
        classifier: Builds the classifier from (D', C): :class:`IdentityClassifier`, or a head with
            a margin such as ``ArcFaceHead`` or ``functools.partial(ArcFaceHead, margin=0.3)``; or
            a loss over the identities such as ``functools.partial(ArcFaceLoss, num_sampled=1000)``,
            which then is the loss of the branch, with smoothing of its own.
        use_neck: Whether a BNNeck precedes the classifier.
        reduced_dim: Width D' of a linear layer in the neck, before its BatchNorm. ``None`` omits
            the layer: D' = D.
        dropout: Dropout probability before the classifier, in [0, 1).
        label_smoothing: :math:`\varepsilon` in [0, 1), spread over all C identities; 0 is usual
            with margins.
        adaptive_smoothing: In [0, 1), in place of ``label_smoothing``: see :func:`identity_loss`.
        focal_gamma: At least 0; weighs down rows that are right already: see
            :func:`identity_loss`.
        sync_neck: With ``distributed``, also take the neck's mean and variance over the rows of all
            ranks: see :class:`BNNeck`. Then several ranks train exactly as one does.
        distributed: Take the mean of the loss over the rows of all ranks.

    Raises:
        ValueError: If a number is out of its range, ``reduced_dim`` or ``sync_neck`` is given
            without a neck, or smoothing or a focal weight beside a loss of its own; in ``forward``,
            if shapes disagree, or the neck gets a single row in training mode.

    Example:
        >>> import torch
        >>> branch = IdentityBranch(8, num_identities=100)
        >>> output = branch(torch.randn(4, 8), torch.tensor([0, 0, 7, 99]))
        >>> output.post_neck.shape, output.logits.shape, output.loss.shape
        (torch.Size([4, 8]), torch.Size([4, 100]), torch.Size([]))

    References:
        Luo et al., Bag of Tricks and A Strong Baseline for Deep Person Re-Identification, CVPRW
        2019.
    """

    out_dim: Final[int]
    distributed: Final[bool]

    def __init__(
        self,
        dim: int,
        num_identities: int | None,
        *,
        classifier: ClassifierFactory = IdentityClassifier,
        use_neck: bool = True,
        reduced_dim: int | None = None,
        dropout: float = 0.0,
        label_smoothing: float = 0.1,
        adaptive_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        sync_neck: bool = False,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_fraction(_OWNER, "dropout", dropout)
        check_identity_options(_OWNER, label_smoothing, adaptive_smoothing, focal_gamma)
        if not use_neck:
            _check_no_neck_options(reduced_dim, sync_neck)

        self.out_dim = dim if reduced_dim is None else reduced_dim
        self.distributed = distributed

        self.neck: BNNeck | None = None
        if use_neck:
            self.neck = BNNeck(dim, reduced_dim, distributed=sync_neck and distributed)
        self.dropout = nn.Dropout(dropout)

        self.classifier = None
        if num_identities is not None:
            self.classifier = classifier(self.out_dim, num_identities)

        # A margin loss is a classifier that returns its loss, and no logits.
        self.has_own_loss = isinstance(self.classifier, ArcFaceLoss | CosFaceLoss)
        if isinstance(self.classifier, ArcFaceLoss | CosFaceLoss):
            if label_smoothing or adaptive_smoothing or focal_gamma:
                name = type(self.classifier).__name__
                raise ValueError(
                    f"{_OWNER}: smoothing and focal weights have no effect with {name}, which has "
                    "its own label_smoothing. Pass label_smoothing=0.0 here, and set it there."
                )
            self.classifier.distributed = distributed

        self.identity_loss = IdentityLoss(
            label_smoothing,
            adaptive_smoothing=adaptive_smoothing,
            focal_gamma=focal_gamma,
            distributed=distributed,
        )

    def forward(
        self, features: Float[Tensor, "n d"], labels: Integer[Tensor, " n"] | None = None
    ) -> IdentityBranchOutput:
        """Apply the neck, and with labels the classifier and its loss.

        Args:
            features: Embeddings of images.
            labels: Identity of each row. ``None`` applies the neck alone.

        Returns:
            Features before and after the neck, and with labels the logits and the loss. For no rows
            the loss is 0, connected to the graph.

        Raises:
            ValueError: If there is not one label for each row, on its device, or (on the CPU) a
                label is out of range.
        """
        post_neck = features if self.neck is None else self.neck(features).after
        if self.classifier is None or labels is None:
            return IdentityBranchOutput(features, post_neck, None, None)

        if self.has_own_loss:
            loss = self.classifier(self.dropout(post_neck), labels)
            return IdentityBranchOutput(features, post_neck, None, loss)

        with errors_on_all_ranks(_OWNER, 1, distributed=self.distributed):
            check_labels(_OWNER, "labels", labels, features.shape[0], features.device)
            logits = self.classifier(self.dropout(post_neck), labels)
            check_label_range(_OWNER, labels, logits.shape[1])

        return IdentityBranchOutput(features, post_neck, logits, self.identity_loss(logits, labels))

    def extra_repr(self) -> str:
        """Return the option that no submodule shows, for ``print(module)``."""
        return f"distributed={self.distributed}"


def _check_no_neck_options(reduced_dim: int | None, sync_neck: bool) -> None:
    """Raise ValueError if an option of the neck is given without one."""
    if reduced_dim is not None:
        raise ValueError(
            f"{_OWNER}: reduced_dim is a layer of the neck; leave it out, or pass use_neck=True."
        )
    if sync_neck:
        raise ValueError(f"{_OWNER}: sync_neck needs a neck; leave it out, or pass use_neck=True.")


@runtime_checkable
class IdentityBranchFactory(Protocol):
    """Builds an identity branch: ``IdentityBranch`` itself, or a ``functools.partial`` of it."""

    def __call__(
        self, dim: int, num_identities: int | None, *, distributed: bool
    ) -> IdentityBranch:
        """Build the branch for features of width ``dim``."""

"""Symmetric InfoNCE, the loss that CLIP was trained with."""

import math
from functools import partial
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_at_least,
    check_fraction,
    check_positive,
    fail,
    inside_a_transform,
)
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import cosine_similarity
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.argument_checks import (
    check_block_size,
    check_pairs,
    check_temperature,
)
from clipreid_kit.losses._engine.pair_terms import (
    PairTerm,
    cross_entropy,
    focal,
    smoothed_cross_entropy,
)
from clipreid_kit.losses._engine.pair_values import (
    Reduction,
    check_ignore,
    check_reduction,
    others_ignored,
)
from clipreid_kit.losses._engine.symmetric_softmax import symmetric_softmax


def info_nce_definition(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "n d"],
    *,
    temperature: float | Float[Tensor, ""] = 0.07,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    focal_alpha: float = 1.0,
    ignore: Bool[Tensor, "n n"] | None = None,
    reduction: Reduction = "mean",
) -> Float[Tensor, " *p"]:
    """The formula of :func:`info_nce_loss` in plain autograd, with the (N, N) matrix in memory.

    Example:
        >>> info_nce_definition(torch.eye(2), torch.eye(2), temperature=1.0)  # ln(1 + e) - 1
        tensor(0.3133)
    """
    logits_NN = cosine_similarity(image_embeddings, text_embeddings) / temperature
    pair_N = torch.arange(len(logits_NN), device=logits_NN.device)
    if ignore is not None:
        logits_NN = logits_NN.masked_fill(others_ignored(ignore), -torch.inf)
    losses = []

    # Image to text, then text to image.
    for direction_NN in (logits_NN, logits_NN.T):
        loss_N = F.cross_entropy(
            direction_NN, pair_N, label_smoothing=label_smoothing, reduction="none"
        )
        # A power below 1 has no slope at 0.
        miss_N = (1 - direction_NN.softmax(dim=1).diagonal()).clamp(min=1e-38)
        losses.append(focal_alpha * miss_N**focal_gamma * loss_N)

    of_pairs_N = (losses[0] + losses[1]) / 2
    return of_pairs_N if reduction == "none" else of_pairs_N.mean()


def info_nce_loss(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "n d"],
    *,
    temperature: float | Float[Tensor, ""] = 0.07,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    focal_alpha: float = 1.0,
    ignore: Bool[Tensor, "n n"] | None = None,
    reduction: Reduction = "mean",
    block_size: int | None = None,
) -> Float[Tensor, " *p"]:
    r"""Symmetric InfoNCE: row i of the images belongs to row i of the texts, and to no other.

    Use it when every row of a batch is a different identity. In batches with several images of an
    identity (PK batches) the siblings would count as negatives: use :func:`supcon_loss` there.

    .. math::
        L = -\frac{1}{2N} \sum_i \Big[
            \log \frac{e^{v_i \cdot t_i / \tau}}{\sum_j e^{v_i \cdot t_j / \tau}}
            + \log \frac{e^{v_i \cdot t_i / \tau}}{\sum_j e^{v_j \cdot t_i / \tau}} \Big]

    With :math:`p` the softmax probability of a true pair in one direction, each :math:`-\log p` can
    be replaced: by cross entropy with smoothed targets, for captions that may fit other images too;
    or by the focal loss :math:`-\alpha (1 - p)^\gamma \log p`, which weighs down pairs that are
    right already.

    Args:
        image_embeddings: Rows :math:`v`; L2-normalised here.
        text_embeddings: Rows :math:`t`; L2-normalised here.
        temperature: :math:`\tau > 0` in units of cosine similarity; a number, or a scalar tensor to
            train it.
        label_smoothing: Share :math:`\epsilon` in [0, 1) of each target that is spread evenly over
            all N rows, the true one included; 0 for none, 0.1 is usual.
        focal_gamma: :math:`\gamma \ge 0` of the focal loss; 0 for none, 2 in its paper.
        focal_alpha: :math:`\alpha > 0` of the focal loss, a plain factor.
        ignore: Marks pairs (image, text) that are no negatives: they are left out of the softmax.
            The diagonal is not read, as a true pair always counts; not with ``label_smoothing``.
        reduction: ``"mean"`` for the loss of the batch; ``"none"`` for the value of each pair, the
            mean of its two directions.
        block_size: Images whose logits are held at once. By default the whole matrix is kept up to
            64 MiB (4096 rows in float32); a larger one is cut into blocks of 4 MiB on a CPU and of
            64 MiB elsewhere. It changes the last digits at most.

    Returns:
        Mean over rows and both directions; with ``reduction="none"`` the values (N,), whose mean it
        is. Zero, connected to the graph, for no rows and for a single row.

    Raises:
        ValueError: If the shapes differ, an option (including a ``temperature`` given as a number)
            is out of its range, or both smoothing and focal weights are requested.

    Example:
        >>> info_nce_loss(torch.eye(2), torch.eye(2), temperature=1.0)  # ln(1 + e) - 1
        tensor(0.3133)

    Relations:
        Equals :func:`info_nce_definition`, the formula in a few lines, and open_clip's ``ClipLoss``
        with ``logit_scale`` = 1 / temperature on normalised features. With ``label_smoothing`` it
        is the mean of torch's ``cross_entropy`` over rows and over columns. With a hinge on hard
        negatives: :func:`hard_negative_contrastive_loss`.

    Note:
        The gradient is computed with the value, and only first derivatives exist. A softmax along
        both sides needs all rows before the first slope: where the matrix is not kept, its blocks
        are computed twice, which makes four matrix products of three. A compiled loss is one graph:
        one for all batch sizes that fit in a block, and otherwise one for each size. With
        ``ignore`` or ``reduction="none"`` the definition is computed, with the matrix in memory.

    References:
        Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML
        2021, fig. 3. Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, section 7
        (smoothing). Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 5.
    """
    check_pairs(
        "info_nce_loss",
        image_embeddings,
        text_embeddings,
        "Repeat the text of an identity for each of its images, or use supcon_loss.",
    )
    check_temperature("info_nce_loss", temperature)
    _check_options("info_nce_loss", label_smoothing, focal_gamma, focal_alpha, block_size)
    check_reduction("info_nce_loss", reduction)
    _check_ignored("info_nce_loss", ignore, image_embeddings.shape[0], label_smoothing)

    has_rows = image_embeddings.shape[0] > 0
    if reduction == "none" or (ignore is not None and has_rows):
        return info_nce_definition(
            image_embeddings,
            text_embeddings,
            temperature=temperature,
            label_smoothing=label_smoothing,
            focal_gamma=focal_gamma,
            focal_alpha=focal_alpha,
            ignore=ignore,
            reduction=reduction,
        )

    return symmetric_softmax(
        image_embeddings,
        text_embeddings,
        1 / temperature,
        _pair_term(label_smoothing, focal_gamma, focal_alpha),
        with_sums=label_smoothing > 0,
        block_size=block_size,
    )


def _check_ignored(
    owner: str, ignore: Tensor | None, num_pairs: int, label_smoothing: float
) -> None:
    check_ignore(owner, ignore, num_pairs, num_pairs)
    if ignore is not None and label_smoothing > 0:
        raise ValueError(
            f"{owner}: label_smoothing={label_smoothing} spreads a target over all rows, and "
            "ignore leaves rows out. Choose one of the two."
        )


def _pair_term(label_smoothing: float, focal_gamma: float, focal_alpha: float) -> PairTerm:
    """Loss of a true pair that the options ask for."""
    if focal_gamma != 0 or focal_alpha != 1:
        return partial(focal, gamma=focal_gamma, alpha=focal_alpha)

    if label_smoothing > 0:
        return partial(smoothed_cross_entropy, label_smoothing=label_smoothing)

    return cross_entropy


def _check_options(
    owner: str,
    label_smoothing: float,
    focal_gamma: float,
    focal_alpha: float,
    block_size: int | None,
) -> None:
    check_fraction(owner, "label_smoothing", label_smoothing)
    check_at_least(owner, "focal_gamma", focal_gamma, 0)
    check_positive(owner, "focal_alpha", focal_alpha)
    check_block_size(owner, block_size)

    is_focal = focal_gamma != 0 or focal_alpha != 1
    if label_smoothing > 0 and is_focal:
        raise ValueError(
            f"{owner}: label_smoothing={label_smoothing} cannot be combined with "
            f"focal_gamma={focal_gamma} and focal_alpha={focal_alpha}, because a smoothed target "
            "has no single probability. Choose one of the two."
        )


@fixed_options()
class InfoNCELoss(nn.Module):
    """Module of :func:`info_nce_loss`; it holds the options and the temperature, fixed or learned.

    Args:
        temperature: Above 0, in units of cosine similarity; the initial value if it is learned.
        learnable: Train the temperature. It is stored as the parameter ``log_scale`` =
            -ln(temperature), as in CLIP; give it to the optimiser without weight decay.
        max_scale: Upper bound of 1 / temperature. In training, the parameter is clamped at the
            start of each forward pass, so it cannot get stuck beyond the bound.
        label_smoothing: Share of each target that is spread over all rows, in [0, 1).
        focal_gamma: Exponent of the focal weights, at least 0; 0 for none.
        focal_alpha: Factor of the focal loss, above 0.
        reduction: ``"mean"``, or ``"none"`` for a value of each pair.
        block_size: Images whose logits are held at once; ``None`` chooses by the device.
        distributed: Gather the rows of all ranks first. ``ignore`` then has a row for each image of
            this rank and a column for each text of all ranks, in their order, and
            ``reduction="none"`` returns the values of all ranks.

    Raises:
        ValueError: If an option is out of its range, 1 / temperature exceeds ``max_scale``, or both
            smoothing and focal weights are requested.

    Example:
        >>> loss = InfoNCELoss(temperature=1.0, learnable=True)
        >>> loss(torch.eye(2), torch.eye(2)).backward()
        >>> loss.log_scale.grad is not None
        True
    """

    learnable: Final[bool]

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        learnable: bool = False,
        max_scale: float = 100.0,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        focal_alpha: float = 1.0,
        reduction: Reduction = "mean",
        block_size: int | None = None,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_positive("InfoNCELoss", "temperature", temperature)
        check_positive("InfoNCELoss", "max_scale", max_scale)
        _check_options("InfoNCELoss", label_smoothing, focal_gamma, focal_alpha, block_size)
        check_reduction("InfoNCELoss", reduction)
        if learnable and 1 / temperature > max_scale * (1 + 1e-9):
            expected = f"temperature >= 1 / max_scale = {1 / max_scale:g}"
            raise fail("InfoNCELoss", expected, temperature)

        self.learnable = learnable
        self.max_scale = max_scale
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma
        self.focal_alpha = focal_alpha
        self.reduction: Reduction = reduction
        self.block_size = block_size
        self.distributed = distributed

        self.fixed_temperature = temperature
        self.log_scale: nn.Parameter | None = None
        if learnable:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    @property
    def temperature(self) -> float:
        """The current temperature as a number; waits for the device if it is learned."""
        if self.log_scale is None:
            return self.fixed_temperature
        return math.exp(-self.log_scale.item())

    def forward(
        self,
        image_embeddings: Float[Tensor, "n d"],
        text_embeddings: Float[Tensor, "n d"],
        *,
        ignore: Bool[Tensor, "n k"] | None = None,
    ) -> Float[Tensor, " *p"]:
        """Compute :func:`info_nce_loss`."""
        if self.distributed:
            image_embeddings, text_embeddings, ignore = gather_batch(
                "InfoNCELoss", image_embeddings, text_embeddings, ignore, options=self._options()
            )

        temperature: float | Tensor = self.fixed_temperature
        if self.log_scale is not None:
            temperature = (-self._bounded_log_scale(self.log_scale).float()).exp()

        return info_nce_loss(
            image_embeddings,
            text_embeddings,
            temperature=temperature,
            label_smoothing=self.label_smoothing,
            focal_gamma=self.focal_gamma,
            focal_alpha=self.focal_alpha,
            ignore=ignore,
            reduction=self.reduction,
            block_size=self.block_size,
        )

    def _options(self) -> tuple[object, ...]:
        """Options that every rank needs alike; a learned temperature is not read."""
        return (
            self.fixed_temperature,
            self.learnable,
            self.max_scale,
            self.label_smoothing,
            self.focal_gamma,
            self.focal_alpha,
            self.reduction,
        )

    def _bounded_log_scale(self, log_scale: Tensor) -> Tensor:
        """The learned scale, clamped in training."""
        if not self.training:
            return log_scale

        highest = math.log(self.max_scale)
        with torch.no_grad():
            # A transform of torch.func may not change what it did not make.
            if not inside_a_transform():
                return log_scale.clamp_(max=highest)
            excess = (log_scale - highest).clamp(min=0)

        return log_scale - excess

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return (
            f"temperature={self.temperature:g}, learnable={self.learnable}, "
            f"max_scale={self.max_scale}, label_smoothing={self.label_smoothing}, "
            f"focal_gamma={self.focal_gamma}, focal_alpha={self.focal_alpha}, "
            f"reduction={self.reduction!r}, block_size={self.block_size}, "
            f"distributed={self.distributed}"
        )

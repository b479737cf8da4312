"""Symmetric InfoNCE, the loss that CLIP was trained with."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import check_positive, fail
from clipreid_kit.distributed import gather
from clipreid_kit.losses._blocks import check_block_size
from clipreid_kit.losses._paired import (
    check_pairs,
    check_softening,
    check_temperature,
    symmetric_softmax,
)


def info_nce_loss(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "n d"],
    *,
    temperature: float | Float[Tensor, ""] = 0.07,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    focal_alpha: float = 1.0,
    block_size: int | None = None,
) -> Float[Tensor, ""]:
    r"""Symmetric InfoNCE: row i of the images belongs to row i of the texts, and to no other.

    Use it where every row of a batch is a different identity. In batches that hold several images of an identity
    (PK batches) the siblings would count as negatives: use :func:`supcon_loss` there.

    .. math::
        L = -\frac{1}{2N} \sum_i \Big[ \log \frac{e^{v_i \cdot t_i / \tau}}{\sum_j e^{v_i \cdot t_j / \tau}}
            + \log \frac{e^{v_i \cdot t_i / \tau}}{\sum_j e^{v_j \cdot t_i / \tau}} \Big]

    With :math:`p` the softmax probability of a true pair in one direction, each :math:`-\log p` above may be replaced:
    by cross-entropy with smoothed targets, for captions that may fit other images too, or by the focal loss
    :math:`-\alpha (1 - p)^\gamma \log p`, which turns from pairs that are right already to those that are not.

    Args:
        image_embeddings: Rows :math:`v`; L2-normalised here.
        text_embeddings: Rows :math:`t`; L2-normalised here.
        temperature: :math:`\tau > 0` in units of cosine similarity; a number, or a scalar tensor to train it.
        label_smoothing: Share :math:`\epsilon` in [0, 1) of each target that is spread evenly over all N rows, the true
            one included; 0 for none, 0.1 is usual.
        focal_gamma: :math:`\gamma \ge 0` of the focal loss; 0 for none, 2 in its paper.
        focal_alpha: :math:`\alpha > 0` of the focal loss, a plain factor.
        block_size: Images whose logits are held at once. ``None`` keeps the whole matrix up to 64 MiB (4096 rows in
            float32), and beyond takes blocks of 4 MiB on a CPU and of 64 MiB elsewhere. It changes the last digits at
            most.

    Returns:
        Mean over rows and both directions. Zero, connected to the graph, for no rows and for a single row.

    Raises:
        ValueError: If the shapes differ, an option (a ``temperature`` given as a number, too) is out of its range, or
            both smoothing and focal weights are asked for.

    Example:
        >>> info_nce_loss(torch.eye(2), torch.eye(2), temperature=1.0)  # ln(1 + e) - 1
        tensor(0.3133)

    Relations:
        Equals open_clip's ``ClipLoss`` with ``logit_scale`` = 1 / temperature on normalised features, and with
        ``label_smoothing`` the mean of torch's ``cross_entropy`` over rows and over columns. With a hinge on hard
        negatives: :func:`hard_negative_contrastive_loss`.

    Note:
        The gradient is found with the value, and there are first derivatives only. A softmax along both sides needs
        all rows before the first slope: where the matrix is not kept, its blocks are computed twice, which makes four
        matrix products of three. A compiled loss is one graph: for batches of any size where they fit in one block,
        else for each size.

    References:
        Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, fig. 3.
        Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, section 7 (smoothing). Lin et al., Focal Loss
        for Dense Object Detection, ICCV 2017, eq. 5.
    """
    check_pairs(
        "info_nce_loss",
        image_embeddings,
        text_embeddings,
        "Repeat the text of an identity for each of its images, or use supcon_loss.",
    )
    check_temperature("info_nce_loss", temperature)
    check_softening("info_nce_loss", label_smoothing, focal_gamma, focal_alpha)
    check_block_size("info_nce_loss", block_size)
    return symmetric_softmax(
        image_embeddings,
        text_embeddings,
        1 / temperature,
        block_size,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
        focal_alpha=focal_alpha,
    )


class InfoNCELoss(nn.Module):
    """:func:`info_nce_loss` with its temperature held, fixed or learned.

    Args:
        temperature: Above 0, in units of cosine similarity; where it is learned, its first value.
        learnable: Train the temperature. It is kept as ``log_scale`` = -ln(temperature), as CLIP does; give it to the
            optimiser without weight decay.
        max_scale: Upper bound of 1 / temperature. The parameter is set back to it at the start of a forward pass in
            training, so that it never sticks beyond the bound.
        label_smoothing: Share of each target that is spread over all rows, in [0, 1).
        focal_gamma: Exponent of the focal weights, at least 0; 0 for none.
        focal_alpha: Factor of the focal loss, above 0.
        block_size: Images whose logits are held at once; ``None`` chooses.
        distributed: Gather the rows of all ranks first.

    Raises:
        ValueError: If ``temperature`` or ``max_scale`` is not above 0, 1 / temperature is beyond ``max_scale``, another
            option is out of its range, or both smoothing and focal weights are asked for.

    Example:
        >>> loss = InfoNCELoss(temperature=1.0, learnable=True)
        >>> loss(torch.eye(2), torch.eye(2)).backward()
        >>> loss.log_scale.grad is not None
        True
    """

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        learnable: bool = False,
        max_scale: float = 100.0,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        focal_alpha: float = 1.0,
        block_size: int | None = None,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_positive("InfoNCELoss", "temperature", temperature)
        check_positive("InfoNCELoss", "max_scale", max_scale)
        check_softening("InfoNCELoss", label_smoothing, focal_gamma, focal_alpha)
        check_block_size("InfoNCELoss", block_size)
        if learnable and 1 / temperature > max_scale * (1 + 1e-9):
            raise fail(
                "InfoNCELoss", f"temperature >= 1 / max_scale = {1 / max_scale:g}", temperature
            )
        self.learnable = learnable
        self.max_scale = max_scale
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma
        self.focal_alpha = focal_alpha
        self.block_size = block_size
        self.distributed = distributed
        self.fixed_temperature = temperature
        log_scale = torch.tensor(-math.log(temperature))
        self.log_scale = nn.Parameter(log_scale) if learnable else None

    @property
    def temperature(self) -> float:
        """The present temperature, as a number (waits for the device if it is learned)."""
        return (
            self.fixed_temperature if self.log_scale is None else math.exp(-self.log_scale.item())
        )

    def forward(
        self, image_embeddings: Float[Tensor, "n d"], text_embeddings: Float[Tensor, "n d"]
    ) -> Float[Tensor, ""]:
        """See :func:`info_nce_loss`."""
        if self.distributed:
            image_embeddings, text_embeddings = gather(image_embeddings), gather(text_embeddings)
        if self.log_scale is None:
            temperature: float | Tensor = self.fixed_temperature
        else:
            if self.training:
                with torch.no_grad():
                    self.log_scale.clamp_(max=math.log(self.max_scale))
            temperature = (-self.log_scale.float()).exp()
        return info_nce_loss(
            image_embeddings,
            text_embeddings,
            temperature=temperature,
            label_smoothing=self.label_smoothing,
            focal_gamma=self.focal_gamma,
            focal_alpha=self.focal_alpha,
            block_size=self.block_size,
        )

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return (
            f"temperature={self.temperature:g}, learnable={self.learnable}, label_smoothing={self.label_smoothing}, "
            f"focal_gamma={self.focal_gamma}, focal_alpha={self.focal_alpha}, block_size={self.block_size}, "
            f"distributed={self.distributed}"
        )

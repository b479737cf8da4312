"""Distillation: a student learns the features, the similarities or the logits of a teacher."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_choice,
    check_embeddings,
    check_positive,
    check_same_width,
    fail,
)
from clipreid_kit.distances import (
    at_least_float32,
    cosine_similarity,
    l2_normalize,
    to_common_precision,
)
from clipreid_kit.distributed import gather_batch

FeatureDistance = Literal["cosine", "squared"]


def feature_distillation_loss(
    student: Float[Tensor, "n d"],
    teacher: Float[Tensor, "n d"],
    *,
    distance: FeatureDistance = "cosine",
) -> Float[Tensor, ""]:
    r"""Distance of each student embedding from the teacher's embedding of the same image.

    Use it where the student should replace the teacher in a gallery that the teacher encoded: the
    embeddings of both then compare.

    .. math::
        L = \frac{1}{N} \sum_i (1 - \cos(s_i, t_i)) \quad\text{or}\quad
        L = \frac{1}{N D} \sum_i \lVert s_i - t_i \rVert^2

    Args:
        student: Embeddings :math:`s`.
        teacher: Embeddings :math:`t` of the same rows and width; no gradient reaches them.
        distance: ``"cosine"``, which ignores lengths, or ``"squared"``.

    Returns:
        Mean over the rows; zero, connected to the graph, for no rows.

    Raises:
        ValueError: If shapes disagree or the distance is unknown.

    Example:
        >>> feature_distillation_loss(torch.eye(2), torch.tensor([[2.0, 0.0], [1.0, 0.0]]))
        tensor(0.5000)

    References:
        Romero et al., FitNets, ICLR 2015, eq. 3 (the squared distance).
    """
    owner = "feature_distillation_loss"
    _check_sides(owner, student, teacher)
    check_same_width(owner, "student", student, "teacher", teacher)
    check_choice(owner, "distance", distance, ("cosine", "squared"))

    with torch.autocast(student.device.type, enabled=False):
        student, teacher = to_common_precision(student, teacher.detach())
        if distance == "cosine":
            cosine_N = (l2_normalize(student) * l2_normalize(teacher)).sum(dim=1)
            loss_N = 1 - cosine_N
        else:
            loss_N = (student - teacher).square().mean(dim=1)
        return loss_N.sum() / max(loss_N.shape[0], 1)


def relational_distillation_loss(
    student: Float[Tensor, "n d"],
    teacher: Float[Tensor, "n e"],
    student_contrast: Float[Tensor, "m d"] | None = None,
    teacher_contrast: Float[Tensor, "m e"] | None = None,
    *,
    temperature: float = 0.1,
    teacher_temperature: float = 0.1,
) -> Float[Tensor, ""]:
    r"""Divergence between the similarity distributions of teacher and student within the batch.

    Use it where student and teacher have different widths, or where ranks matter and coordinates do
    not: the student learns which other rows the teacher finds similar.

    .. math::
        L = \frac{1}{N} \sum_i \sum_{j \ne i} p_{ij} \ln \frac{p_{ij}}{q_{ij}}, \qquad
        p_i = \operatorname{softmax}_j(\cos(t_i, t_j) / \tau_t), \quad
        q_i = \operatorname{softmax}_j(\cos(s_i, s_j) / \tau)

    Args:
        student: Embeddings :math:`s`; L2-normalised here.
        teacher: Embeddings :math:`t` of the same rows, of any width; no gradient reaches them.
        student_contrast: Rows that are compared with, such as texts or a memory. ``None`` means
            ``student``, and then (only then) a row is not compared with itself.
        teacher_contrast: The same rows by the teacher; required with ``student_contrast``.
        temperature: :math:`\tau > 0` of the student, in units of cosine similarity.
        teacher_temperature: :math:`\tau_t > 0`; below ``temperature`` it sharpens the target.

    Returns:
        Mean over the rows, at least 0. Zero, connected to the graph, where nothing is compared.

    Raises:
        ValueError: If shapes disagree, one of the contrasts is given without the other, or an
            option is out of its range.

    Example:
        >>> rows = torch.randn(4, 8)
        >>> relational_distillation_loss(rows, 3 * rows).abs() < 1e-6
        tensor(True)

    References:
        Fang et al., SEED: Self-supervised Distillation for Visual Representation, ICLR 2021,
        section 3.2 (against a memory).
    """
    owner = "relational_distillation_loss"
    _check_sides(owner, student, teacher)
    check_positive(owner, "temperature", temperature)
    check_positive(owner, "teacher_temperature", teacher_temperature)
    _check_contrasts(owner, student, teacher, student_contrast, teacher_contrast)

    itself = None
    if student_contrast is None or teacher_contrast is None:
        student_contrast, teacher_contrast = student, teacher
        itself = torch.eye(student.shape[0], dtype=torch.bool, device=student.device)

    with torch.autocast(student.device.type, enabled=False):
        own_NM = cosine_similarity(student, student_contrast) / temperature
        wanted_NM = cosine_similarity(teacher, teacher_contrast).detach() / teacher_temperature
        num_compared = own_NM.shape[1] - (itself is not None)
        if own_NM.shape[0] == 0 or num_compared == 0:
            return 0.0 * own_NM.sum()

        if itself is not None:
            own_NM = own_NM.masked_fill(itself, -torch.inf)
            wanted_NM = wanted_NM.masked_fill(itself, -torch.inf)
        return _divergence(own_NM, wanted_NM).mean()


def logit_distillation_loss(
    student_logits: Float[Tensor, "n c"],
    teacher_logits: Float[Tensor, "n c"],
    *,
    temperature: float = 4.0,
) -> Float[Tensor, ""]:
    r"""Divergence between the softened class distributions of teacher and student.

    Use it with identity classifiers over the same identities.

    .. math::
        L = \frac{\tau^2}{N} \sum_i \sum_c p_{ic} \ln \frac{p_{ic}}{q_{ic}}, \qquad
        p_i = \operatorname{softmax}(t_i / \tau), \quad q_i = \operatorname{softmax}(s_i / \tau)

    Args:
        student_logits: Logits :math:`s`.
        teacher_logits: Logits :math:`t` of the same rows and classes; no gradient reaches them.
        temperature: :math:`\tau > 0` in units of the logits; 2 to 10 is usual for classifiers, 1
            for logits that have a scale already.

    Returns:
        Mean over the rows, at least 0; zero, connected to the graph, for no rows.

    Raises:
        ValueError: If shapes disagree or the temperature is out of its range.

    Example:
        >>> # p = (1/2, 1/2), q = (2/3, 1/3): ln(9/8) / 2
        >>> student = torch.tensor([[2.0, 1.0]]).log()
        >>> logit_distillation_loss(student, torch.zeros(1, 2), temperature=1.0)
        tensor(0.0589)

    References:
        Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 2.
    """
    owner = "logit_distillation_loss"
    _check_sides(owner, student_logits, teacher_logits)
    check_same_width(owner, "student", student_logits, "teacher", teacher_logits)
    check_positive(owner, "temperature", temperature)

    with torch.autocast(student_logits.device.type, enabled=False):
        student = at_least_float32(student_logits) / temperature
        teacher = at_least_float32(teacher_logits.detach()) / temperature
        loss_N = _divergence(student, teacher.to(student.dtype))
        return temperature**2 * loss_N.sum() / max(loss_N.shape[0], 1)


def _divergence(student_NC: Tensor, teacher_NC: Tensor) -> Tensor:
    """KL divergence of every row; a class of probability 0 on both sides adds nothing."""
    # A finite logit instead of -inf: 0 times a difference of such logits is 0, and not NaN.
    lowest = torch.finfo(student_NC.dtype).min / 4
    log_q_NC = student_NC.clamp(min=lowest).log_softmax(dim=1)
    log_p_NC = teacher_NC.clamp(min=lowest).log_softmax(dim=1)
    return (log_p_NC.exp() * (log_p_NC - log_q_NC)).sum(dim=1)


def _check_sides(owner: str, student: Tensor, teacher: Tensor) -> None:
    check_embeddings(owner, "student", student)
    check_embeddings(owner, "teacher", teacher)
    if student.shape[0] != teacher.shape[0]:
        got = f"{student.shape[0]} and {teacher.shape[0]}"
        raise fail(owner, "as many rows of the student as of the teacher", got)


def _check_contrasts(
    owner: str,
    student: Tensor,
    teacher: Tensor,
    student_contrast: Tensor | None,
    teacher_contrast: Tensor | None,
) -> None:
    if (student_contrast is None) != (teacher_contrast is None):
        raise ValueError(
            f"{owner}: student_contrast and teacher_contrast are the same rows by both models. "
            "Give both, or neither."
        )

    if student_contrast is not None and teacher_contrast is not None:
        _check_sides(owner, student_contrast, teacher_contrast)
        check_same_width(owner, "student", student, "student_contrast", student_contrast)
        check_same_width(owner, "teacher", teacher, "teacher_contrast", teacher_contrast)


class FeatureDistillationLoss(nn.Module):
    """Module of :func:`feature_distillation_loss`; it holds the options and has no parameters.

    Args:
        distance: ``"cosine"`` or ``"squared"``.
        distributed: Take the mean over the rows of all ranks.

    Raises:
        ValueError: If the distance is unknown.

    Example:
        >>> FeatureDistillationLoss()(torch.eye(2), torch.tensor([[2.0, 0.0], [1.0, 0.0]]))
        tensor(0.5000)
    """

    def __init__(self, distance: FeatureDistance = "cosine", *, distributed: bool = False) -> None:
        super().__init__()
        check_choice("FeatureDistillationLoss", "distance", distance, ("cosine", "squared"))
        self.distance: FeatureDistance = distance
        self.distributed = distributed

    def forward(
        self, student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d"]
    ) -> Float[Tensor, ""]:
        """Compute :func:`feature_distillation_loss`."""
        if self.distributed:
            student, teacher = gather_batch(
                "FeatureDistillationLoss", student, teacher, options=(self.extra_repr(),)
            )
        return feature_distillation_loss(student, teacher, distance=self.distance)

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return f"distance={self.distance!r}, distributed={self.distributed}"


class RelationalDistillationLoss(nn.Module):
    """Module of :func:`relational_distillation_loss`; it holds the options, without parameters.

    Args:
        temperature: Above 0, of the student, in units of cosine similarity.
        teacher_temperature: Above 0, of the teacher.
        distributed: Gather the rows of all ranks first, so that more are compared.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> rows = torch.randn(4, 8)
        >>> RelationalDistillationLoss()(rows, 3 * rows).abs() < 1e-6
        tensor(True)
    """

    def __init__(
        self,
        temperature: float = 0.1,
        teacher_temperature: float = 0.1,
        *,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_positive("RelationalDistillationLoss", "temperature", temperature)
        check_positive("RelationalDistillationLoss", "teacher_temperature", teacher_temperature)
        self.temperature = temperature
        self.teacher_temperature = teacher_temperature
        self.distributed = distributed

    def forward(
        self,
        student: Float[Tensor, "n d"],
        teacher: Float[Tensor, "n e"],
        student_contrast: Float[Tensor, "m d"] | None = None,
        teacher_contrast: Float[Tensor, "m e"] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute :func:`relational_distillation_loss`."""
        if self.distributed:
            student, teacher, student_contrast, teacher_contrast = gather_batch(
                "RelationalDistillationLoss",
                student,
                teacher,
                student_contrast,
                teacher_contrast,
                options=(self.extra_repr(),),
            )

        return relational_distillation_loss(
            student,
            teacher,
            student_contrast,
            teacher_contrast,
            temperature=self.temperature,
            teacher_temperature=self.teacher_temperature,
        )

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return (
            f"temperature={self.temperature}, teacher_temperature={self.teacher_temperature}, "
            f"distributed={self.distributed}"
        )


class LogitDistillationLoss(nn.Module):
    """Module of :func:`logit_distillation_loss`; it holds the options and has no parameters.

    Args:
        temperature: Above 0, in units of the logits.
        distributed: Take the mean over the rows of all ranks.

    Raises:
        ValueError: If the temperature is out of its range.

    Example:
        >>> LogitDistillationLoss(1.0)(torch.tensor([[2.0, 1.0]]).log(), torch.zeros(1, 2))
        tensor(0.0589)
    """

    def __init__(self, temperature: float = 4.0, *, distributed: bool = False) -> None:
        super().__init__()
        check_positive("LogitDistillationLoss", "temperature", temperature)
        self.temperature = temperature
        self.distributed = distributed

    def forward(
        self, student_logits: Float[Tensor, "n c"], teacher_logits: Float[Tensor, "n c"]
    ) -> Float[Tensor, ""]:
        """Compute :func:`logit_distillation_loss`."""
        if self.distributed:
            student_logits, teacher_logits = gather_batch(
                "LogitDistillationLoss",
                student_logits,
                teacher_logits,
                options=(self.extra_repr(),),
            )
        return logit_distillation_loss(student_logits, teacher_logits, temperature=self.temperature)

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return f"temperature={self.temperature}, distributed={self.distributed}"

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracles import ranks as oracle

from clipreid_kit.losses import (
    FeatureDistillationLoss,
    LogitDistillationLoss,
    RelationalDistillationLoss,
    feature_distillation_loss,
    logit_distillation_loss,
    relational_distillation_loss,
)

SEEDS = st.integers(0, 10_000)


def two(num_rows, seed, width=5, other_width=5):
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(num_rows, width, generator=generator)
    return first, torch.randn(num_rows, other_width, generator=generator)


@given(st.integers(0, 6), SEEDS, st.sampled_from(["cosine", "squared"]))
def test_features(num_rows, seed, distance):
    student, teacher = two(num_rows, seed)
    got = feature_distillation_loss(student, teacher, distance=distance).item()
    want = oracle.feature_distillation(student.tolist(), teacher.tolist(), distance)
    assert got == pytest.approx(want, rel=1e-4, abs=1e-5)
    assert feature_distillation_loss(teacher, teacher, distance=distance).item() < 1e-5


@given(st.integers(0, 6), SEEDS, st.booleans())
def test_relations(num_rows, seed, with_contrast):
    student, teacher = two(num_rows, seed, 5, 3)
    contrast = two(4, seed + 1, 5, 3) if with_contrast else (None, None)
    options = {"temperature": 0.5, "teacher_temperature": 0.2}
    got = relational_distillation_loss(student, teacher, *contrast, **options).item()

    lists = [None if side is None else side.tolist() for side in (student, teacher, *contrast)]
    assert got == pytest.approx(
        oracle.relational_distillation(*lists, 0.5, 0.2), rel=1e-4, abs=1e-5
    )


@given(st.integers(0, 6), SEEDS, st.sampled_from([1.0, 4.0]))
def test_logits(num_rows, seed, temperature):
    student, teacher = two(num_rows, seed)
    got = logit_distillation_loss(student, teacher, temperature=temperature)
    want = oracle.logit_distillation(student.tolist(), teacher.tolist(), temperature)
    assert got.item() == pytest.approx(want, rel=1e-3, abs=1e-4)

    if num_rows > 0:
        log_q = (student / temperature).log_softmax(1)
        p = (teacher / temperature).softmax(1)
        by_torch = F.kl_div(log_q, p, reduction="batchmean") * temperature**2
        torch.testing.assert_close(got, by_torch, rtol=1e-4, atol=1e-5)


LOSSES = [
    FeatureDistillationLoss(),
    FeatureDistillationLoss("squared"),
    RelationalDistillationLoss(),
    LogitDistillationLoss(),
]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_the_teacher_gets_no_gradient_and_the_student_learns(loss):
    student, teacher = [side.requires_grad_() for side in two(6, 0)]
    value = loss(student, teacher)
    value.backward()
    assert teacher.grad is None

    with torch.no_grad():
        student -= 0.01 * student.grad / student.grad.norm()
    assert loss(student, teacher) < value


def test_relations_ignore_rotations():
    student, _ = two(6, 0)
    rotation, _ = torch.linalg.qr(torch.randn(5, 5))
    assert relational_distillation_loss(student, student @ rotation).item() == pytest.approx(
        0, abs=1e-5
    )


def test_impossible_classes_of_the_teacher_add_nothing():
    teacher = torch.tensor([[0.0, -torch.inf, 0.0]])
    student = torch.zeros(1, 3, requires_grad=True)
    loss = logit_distillation_loss(student, teacher, temperature=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(0.405465, abs=1e-5)  # ln(3 / 2)
    torch.testing.assert_close(student.grad, torch.tensor([[1 / 3 - 1 / 2, 1 / 3, 1 / 3 - 1 / 2]]))


@pytest.mark.unhooked
def test_errors():
    rows = torch.zeros(3, 4)
    with pytest.raises(ValueError, match="distance to be one of cosine, squared, got 'l1'"):
        FeatureDistillationLoss("l1")
    with pytest.raises(ValueError, match="as many rows of the student as of the teacher, got 3"):
        feature_distillation_loss(rows, rows[:2])
    with pytest.raises(ValueError, match="student and teacher of one width"):
        feature_distillation_loss(rows, torch.zeros(3, 5))
    with pytest.raises(ValueError, match="Give both, or neither"):
        relational_distillation_loss(rows, rows, rows)
    with pytest.raises(ValueError, match="LogitDistillationLoss: expected temperature > 0"):
        LogitDistillationLoss(0)
    with pytest.raises(ValueError, match="expected teacher_temperature > 0"):
        RelationalDistillationLoss(teacher_temperature=0)

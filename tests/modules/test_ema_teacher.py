import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.modules import EmaTeacher


def student():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5)
    )


def step(module, seed):
    """Other weights, and other running statistics."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))
    module.train()(torch.randn(8, 3))


@given(st.sampled_from([0.0, 0.5, 0.9]), st.integers(1, 5))
def test_parameters_are_averages_and_buffers_are_copies(decay, num_steps):
    module = student()
    teacher = EmaTeacher(module, decay)
    want = {name: value.double().clone() for name, value in module.named_parameters()}

    for seed in range(num_steps):
        step(module, seed)
        teacher.update(module)
        for name, value in module.named_parameters():
            want[name] = decay * want[name] + (1 - decay) * value.double()

    for name, value in teacher.module.named_parameters():
        torch.testing.assert_close(value.double(), want[name], rtol=1e-5, atol=1e-5)
    buffers = dict(module.named_buffers())
    for name, value in teacher.module.named_buffers():
        assert torch.equal(value, buffers[name])


def test_it_runs_without_gradient_in_evaluation_mode():
    module = student()
    teacher = EmaTeacher(module)
    around = torch.nn.ModuleList([teacher])
    around.train()
    assert not any(part.training for part in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())

    rows = torch.randn(5, 3, requires_grad=True)
    output = teacher(rows)
    assert not output.requires_grad
    assert torch.equal(output, module.eval()(rows))
    assert torch.equal(teacher(rows), output)


def test_the_student_is_neither_kept_nor_changed():
    module = student()
    before = copy.deepcopy(module.state_dict())
    teacher = EmaTeacher(module, 0.5)
    assert all(parameter.requires_grad for parameter in module.parameters())

    with torch.no_grad():
        teacher.module[0].weight.zero_()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_resumed_teacher_continues():
    module = student()
    teacher = EmaTeacher(module, 0.5)
    step(module, 1)
    teacher.update(module)

    resumed = EmaTeacher(student(), 0.5)
    resumed.load_state_dict(teacher.state_dict())
    step(module, 2)
    teacher.update(module)
    resumed.update(module)
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


@pytest.mark.unhooked
def test_errors():
    with pytest.raises(ValueError, match=r"EmaTeacher: expected decay in \[0, 1\), got 1"):
        EmaTeacher(student(), 1)
    with pytest.raises(ValueError, match="expected decay as a number"):
        EmaTeacher(student(), "0.9")

    teacher = EmaTeacher(student())
    with pytest.raises(ValueError, match=r"other parameters than .* for example '0.bias'"):
        teacher.update(torch.nn.Linear(3, 4))
    with pytest.raises(ValueError, match=r"other parameters than .* '0.bias'"):
        teacher.update(torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5)))

import pytest
import torch

from clipreid_kit.losses._engine.attached_gradient import (
    InputGradient,
    attach_gradients,
    needs_gradient,
    without_autocast,
)


def test_each_input_gets_its_gradient_times_its_factor():
    first = torch.ones(2, requires_grad=True)
    second = torch.ones(3, requires_grad=True)
    gradients = [
        InputGradient(first, torch.tensor([1.0, 2.0]), torch.tensor(10.0)),
        InputGradient(second, torch.tensor([3.0, 4.0, 5.0]), torch.tensor(1.0)),
    ]

    value = attach_gradients(torch.tensor(7.0), gradients)
    (2 * value).backward()

    assert value.item() == 7
    assert first.grad.tolist() == [20, 40]
    assert second.grad.tolist() == [6, 8, 10]


def test_without_gradients_the_value_is_returned_itself():
    value = torch.tensor(7.0)
    assert attach_gradients(value, []) is value


def test_a_second_derivative_is_an_error():
    leaf = torch.ones((), requires_grad=True)
    gradient = InputGradient(leaf, torch.ones(()), torch.ones(()))
    value = attach_gradients(torch.tensor(7.0), [gradient])

    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(value, leaf, create_graph=True)


def test_needs_gradient():
    leaf = torch.ones((), requires_grad=True)

    assert needs_gradient(leaf)
    assert not needs_gradient(leaf.detach())
    assert not needs_gradient(1.0)
    with torch.no_grad():
        assert not needs_gradient(leaf)


@pytest.mark.parametrize("enabled", [False, True])
def test_without_autocast(enabled):
    cpu = torch.device("cpu")

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
        with without_autocast(cpu):
            assert not torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_enabled("cpu") == enabled

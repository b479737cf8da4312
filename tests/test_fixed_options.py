"""Attributes that the constructor alone sets."""

import copy
import pickle

import pytest
import torch

from clipreid_kit._fixed_options import fixed_options


@fixed_options("size", not_kept=("rows",))
class Plain:
    def __init__(self, rows, size):
        self.size = size
        self.count = len(rows) // size


@fixed_options("dim")
class Layer(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim
        self.linear = torch.nn.Linear(dim, 1)


class Derived(Plain):
    def __init__(self, rows):
        super().__init__(rows, 2)
        self.name = "derived"


@pytest.mark.parametrize(
    "build", [lambda: Plain([1, 2], 2), lambda: Derived([1, 2])], ids=["itself", "subclass"]
)
def test_an_option_is_set_by_the_constructor_alone(build):
    built = build()
    copies = copy.copy(built), copy.deepcopy(built), pickle.loads(pickle.dumps(built))
    for made in (built, *copies):
        with pytest.raises(AttributeError, match=r"^Plain: size is fixed .* a new Plain with"):
            made.size = 2
        with pytest.raises(AttributeError, match=r"^Plain: rows is fixed when the object is built"):
            made.rows = [3]
        made.count = 7
        made.other = 8
        assert (made.size, made.count, made.other) == (2, 7, 8)


def test_a_module_still_registers_what_is_assigned():
    layer = Layer(3)
    with pytest.raises(AttributeError, match="dim is fixed"):
        layer.dim = 4

    layer.linear = torch.nn.Linear(3, 2)
    layer.load_state_dict(layer.state_dict())
    assert [name for name, _ in layer.named_parameters()] == ["linear.weight", "linear.bias"]
    assert layer.dim == 3

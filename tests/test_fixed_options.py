"""Attributes that the constructor alone sets."""

import copy
import dataclasses
import io
import pickle
from typing import Final

import pytest
import torch

from clipreid_kit._fixed_options import fixed_options


@fixed_options(not_kept=("rows",))
class Plain:
    size: Final[int]
    count: int

    def __init__(self, rows, size):
        self.size = size
        self.count = len(rows) // size


@fixed_options(not_kept=("seed",))
class Layer(torch.nn.Module):
    dim: Final[int]
    kind: Final[str]

    def __init__(self, dim, kind="plain", seed=0):
        super().__init__()
        self.dim = dim
        self.kind = kind
        self.scale = 1.0
        self.linear = torch.nn.Linear(dim, 1)

    def forward(self, rows):
        signs = 1 if self.kind == "plain" else -1
        return signs * self.scale * self.linear(rows) / self.dim


class Derived(Plain):
    """A subclass as it is."""


class WithRows(Plain):
    """A subclass that keeps what its base uses up."""

    def __init__(self, rows, size):
        super().__init__(rows, size)
        self.rows = rows


def saved_and_loaded(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "itself": lambda value: value,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "torch.save": saved_and_loaded,
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize("kind", [Plain, Derived])
def test_an_option_is_set_by_the_constructor_alone(kind, copied):
    made = copied(kind([1, 2], 2))

    with pytest.raises(AttributeError, match=rf"^Plain: size is fixed .* a new {kind.__name__} wi"):
        made.size = 3
    with pytest.raises(AttributeError, match=r"^Plain: size is fixed"):
        del made.size
    with pytest.raises(AttributeError, match=r"^Plain: rows is fixed when the object is built"):
        made.rows = [3]
    with pytest.raises(
        AttributeError, match=rf"^'{kind.__name__}' object has no attribute 'rows'$"
    ):
        _ = made.rows
    assert not hasattr(made, "rows")

    made.size = 2
    made.count = 7
    made.other = 8
    assert (made.size, made.count, made.other) == (2, 7, 8)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
def test_a_subclass_may_keep_what_its_base_does_not(copied):
    made = copied(WithRows([1, 2], 2))
    assert made.rows == [1, 2]

    made.rows = [3]
    assert made.rows == [3]
    with pytest.raises(
        AttributeError, match=r"a new WithRows .*, which its constructor gives to Pl"
    ):
        made.size = 3


def test_an_option_without_a_value_is_no_attribute():
    assert not hasattr(Plain, "size")
    assert not hasattr(Plain.__new__(Plain), "size")

    @dataclasses.dataclass
    class Sized(Plain):
        size: int

        def __post_init__(self):
            Plain.__init__(self, [1, 2], self.size)

    assert Sized(2).size == 2
    with pytest.raises(TypeError, match="size"):
        Sized()


@pytest.mark.parametrize("name", ["dim", "kind", "seed"])
def test_a_parameter_or_a_module_cannot_take_the_place_of_an_option(name):
    layer = Layer(3)
    kept = dict(vars(layer))

    for part in (torch.nn.Parameter(torch.ones(3)), torch.nn.Linear(3, 1)):
        with pytest.raises(AttributeError, match=f"^Layer: {name} is fixed"):
            setattr(layer, name, part)

    assert vars(layer) == kept
    assert len(list(layer.children())) == 1


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
def test_a_module_works_as_any_other(copied):
    layer = copied(Layer(3))
    for name in ("dim", "kind", "seed"):
        with pytest.raises(AttributeError, match=f"^Layer: {name} is fixed"):
            setattr(layer, name, 4)

    layer.linear = torch.nn.Linear(3, 2)
    layer.load_state_dict(layer.state_dict())
    assert [name for name, _ in layer.named_parameters()] == ["linear.weight", "linear.bias"]
    assert not hasattr(layer, "seed")
    assert layer.dim == 3


def test_a_compiler_sees_a_plain_attribute():
    class Counting(Layer):
        def forward(self, rows):
            self.calls = self.calls + 1
            return super().forward(rows)

    layer = Counting(3, "other")
    layer.calls = 0
    rows = torch.randn(2, 3)

    compiled = torch.compile(layer, fullgraph=True, backend="eager")

    assert torch.equal(compiled(rows), layer(rows))
    assert layer.calls == 2


def test_fake_tensors_and_the_meta_device():
    with torch._subclasses.FakeTensorMode():
        assert Layer(3)(torch.randn(2, 3)).shape == (2, 1)
    with torch.device("meta"):
        assert Layer(3).linear.weight.is_meta

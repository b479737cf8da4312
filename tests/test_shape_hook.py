import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import shape_hook
import torch
from jaxtyping import Float, TypeCheckError
from shape_hook import checked, without_checks
from torch import Tensor

TWO_BY_THREE = torch.ones(2, 3)
TWO_BY_FOUR = torch.ones(2, 4)


@checked
def sums(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n d"] | None = None, *, dim: int = 1
) -> Float[Tensor, " n"]:
    """Sums of rows."""
    return x.sum(dim)


@checked
def half(number: float, label: "str" = "", other: "NotImported" = None) -> float:  # noqa: F821
    return number / 2 if number else "nothing"


@checked
def each(count: int) -> Iterator[int]:
    yield from range(count)


@checked
def applied(function: Callable[[Float[Tensor, "n d"]], Tensor], x: Float[Tensor, "n d"]) -> Tensor:
    return sums(function(x))


@checked
@dataclass(frozen=True)
class Pair:
    rows: Float[Tensor, "n d"]
    weights: Float[Tensor, " n"]
    name: str = ""


@checked
@dataclass(frozen=True)
class NamedPair(Pair):
    number: int = 0


def test_right_calls_pass():
    assert sums(TWO_BY_THREE, TWO_BY_THREE).tolist() == [3.0, 3.0]
    assert half(3) == 1.5
    assert list(each(2)) == [0, 1]
    assert NamedPair(TWO_BY_THREE, torch.ones(2)).number == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: sums(torch.ones(2)),
        lambda: sums(torch.ones(2, 3, dtype=torch.int64)),
        lambda: sums(TWO_BY_THREE, TWO_BY_FOUR),
        lambda: sums(TWO_BY_THREE, y=TWO_BY_FOUR),
        lambda: sums(TWO_BY_THREE, dim="1"),
        lambda: half("3"),
        lambda: half(3, 4),
        lambda: next(each("2")),
        lambda: applied(3, TWO_BY_THREE),
        lambda: Pair(TWO_BY_THREE, torch.ones(3)),
        lambda: Pair(TWO_BY_THREE, torch.ones(2), name=3),
        lambda: NamedPair(TWO_BY_THREE, torch.ones(3)),
        lambda: NamedPair(TWO_BY_THREE, torch.ones(2), number="0"),
    ],
)
def test_wrong_arguments_are_refused(call):
    with pytest.raises(TypeCheckError):
        call()


def test_wrong_results_are_refused():
    with pytest.raises(TypeCheckError, match="return"):
        sums(TWO_BY_THREE, dim=0)
    with pytest.raises(TypeCheckError, match="return"):
        half(0)


def test_switched_off_nothing_is_checked():
    with without_checks():
        assert half(0) == "nothing"
        assert Pair(TWO_BY_THREE, torch.ones(3)).name == ""
        with pytest.raises(TypeError, match="interpreted as an integer"):
            next(each("2"))

    with pytest.raises(TypeCheckError):
        half(0)


def test_threads_may_call_a_function_for_the_first_time_at_once(monkeypatch):
    compile_checks = shape_hook._compile_checks
    together = threading.Barrier(2, timeout=60)

    def compile_together(function):
        together.wait()
        return compile_checks(function)

    monkeypatch.setattr(shape_hook, "_compile_checks", compile_together)
    doubled = checked(half.__wrapped__)
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(doubled, [2, 4])) == [1.0, 2.0]


def test_axes_are_those_of_one_call():
    assert sums(TWO_BY_THREE).shape == sums(TWO_BY_FOUR).shape
    assert applied(lambda x: torch.ones(5, 7), TWO_BY_THREE).shape == (5,)


def test_a_name_that_only_type_checkers_know_is_anything():
    assert half(2, other=object()) == 1.0


def test_a_function_keeps_its_name_text_and_annotations():
    assert sums.__name__ == "sums"
    assert sums.__doc__ == "Sums of rows."
    assert half.__annotations__["label"] == "str"
    assert half.__wrapped__.__annotations__["label"] == "str"

"""Random numbers of single items, from a generator that nothing else draws from."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# All that draw random numbers and take a generator.
_WITH_GENERATOR = frozenset(
    {
        torch.bernoulli,
        torch.binomial,
        torch.multinomial,
        torch.normal,
        torch.poisson,
        torch.rand,
        torch.randint,
        torch.randn,
        torch.randperm,
        torch._sample_dirichlet,  # noqa: SLF001 (AugMix calls it)
        torch._standard_gamma,  # noqa: SLF001
        Tensor.bernoulli,
        Tensor.bernoulli_,
        Tensor.cauchy_,
        Tensor.exponential_,
        Tensor.geometric_,
        Tensor.log_normal_,
        Tensor.multinomial,
        Tensor.normal_,
        Tensor.random_,
        Tensor.uniform_,
    }
)

# Those that take no generator, by the method that fills a tensor with the same numbers.
_LIKE: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.rand_like: Tensor.uniform_,
    torch.randn_like: Tensor.normal_,
    torch.randint_like: Tensor.random_,
}
_RANDOM = _WITH_GENERATOR.union(_LIKE)


class ItemRandom(TorchFunctionMode):
    """While active in a thread, torch's random functions draw from a generator of that thread.

    They give the numbers that torch's global generator would give after the same seed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._generator = torch.Generator()
        self._seeds_global = threading.current_thread() is threading.main_thread()

    def seed(self, number: int) -> None:
        """Start the random numbers of an item."""
        self._generator.manual_seed(number)

        # For functions that take no generator, such as dropout. In another thread, the main thread
        # may be drawing at this moment.
        if self._seeds_global:
            torch.default_generator.manual_seed(number)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 (whatever torch returns)
        """Pass the generator to a random function that was called without one."""
        options = dict(kwargs) if kwargs else {}
        if func not in _RANDOM or not _is_on_cpu(args, options):
            return func(*args, **options)

        if func in _LIKE:
            return self._like(func, *args, **options)
        if options.get("generator") is None:
            options["generator"] = self._generator
        return func(*args, **options)

    def _like(self, func: Callable[..., Any], like: Tensor, *bounds: int, **options: Any) -> Tensor:  # noqa: ANN401
        """Return random numbers in the shape of a tensor."""
        low_and_high = [options.pop(name) for name in ("low", "high") if name in options]
        limits = [*bounds, *low_and_high]
        if len(limits) == 1:
            limits = [0, *limits]

        options.pop("generator", None)
        filled: Tensor = _LIKE[func](
            torch.empty_like(like, **options), *limits, generator=self._generator
        )
        return filled


@contextmanager
def item_random() -> Iterator[ItemRandom]:
    """Yield the random numbers of items; torch's global generator is as before afterwards."""
    random = ItemRandom()
    if threading.current_thread() is not threading.main_thread():
        with random:
            yield random
        return

    # As torch.random.fork_rng does, but without a look at every accelerator.
    before = torch.default_generator.get_state()
    try:
        with random:
            yield random
    finally:
        torch.default_generator.set_state(before)


def _is_on_cpu(args: tuple[Any, ...], options: Mapping[str, Any]) -> bool:
    """Return whether a random function draws on the CPU."""
    if options.get("device") is not None:
        return torch.device(options["device"]).type == "cpu"
    return not (args and isinstance(args[0], Tensor) and args[0].device.type != "cpu")

"""Sum of named losses, with weights that may change and balance themselves."""

import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import check_at_least, check_choice, check_fraction, describe, fail
from clipreid_kit.distances import exact
from clipreid_kit.distributed import gather

Weight = float | Callable[[int], float]
Balance = Literal["none", "magnitude", "uncertainty"]
Parts = dict[str, Tensor]


def sum_losses(
    terms: Mapping[str, Tensor], weights: Mapping[str, float]
) -> tuple[Float[Tensor, ""], Parts]:
    r"""Add losses by name, :math:`\sum_i w_i L_i`, and return each weighted term for the log.

    Args:
        terms: Losses, each a scalar tensor; float16 and bfloat16 are added in float32.
        weights: Weight :math:`w_i \ge 0` of each name; the same names as ``terms``. A weight of 0 adds nothing, but
            keeps the term's parameters in the graph, which DDP asks for.

    Returns:
        The sum, and by name the weighted terms that it consists of, without gradient. Nothing waits for the device:
        a term that is NaN (or infinite, also with a weight of 0) makes the sum NaN, and its part shows which it was.

    Raises:
        ValueError: If a name is missing or unknown, a term is no scalar, or a weight is negative or not finite.

    Example:
        >>> terms = {"id": torch.tensor(3.0), "triplet": torch.tensor(0.5)}
        >>> total, parts = sum_losses(terms, {"id": 1.0, "triplet": 2.0})
        >>> total, parts["triplet"]
        (tensor(4.), tensor(1.))
    """
    _check_terms("sum_losses", terms, weights)
    for name, weight in weights.items():
        _check_weight("sum_losses", name, weight)
    weighted = {name: weight * exact(terms[name]) for name, weight in weights.items()}
    return torch.stack(list(weighted.values())).sum(), {
        name: part.detach() for name, part in weighted.items()
    }


def _check_weight(owner: str, name: str, weight: float) -> None:
    if (
        not 0 <= weight < math.inf
    ):  # comparisons alone: under torch.compile a ramp's weight is symbolic
        raise fail(owner, f"weight of {name} >= 0 and finite", weight)


def _check_terms(owner: str, terms: Mapping[str, Tensor], names: Iterable[str]) -> None:
    expected = list(names)
    for name in terms:
        if name not in expected:
            near = get_close_matches(name, expected, n=1)
            raise fail(
                owner,
                f"terms named {', '.join(expected)}",
                f"{name!r}",
                f"Did you mean {near[0]!r}?" if near else "Give it a weight.",
            )
    for name in expected:
        if name not in terms:
            raise fail(
                owner,
                f"a term {name!r}",
                f"only {', '.join(terms) or 'an empty mapping'}",
                "A term that is switched off is left out of the weights, or has a weight of 0.",
            )
        if not isinstance(terms[name], Tensor):
            raise fail(owner, f"term {name!r} as a tensor", type(terms[name]).__name__)
        if terms[name].ndim or not terms[name].is_floating_point():
            raise fail(
                owner,
                f"term {name!r} as a floating-point scalar",
                describe(terms[name]),
                "Take its mean.",
            )


class WeightedSum(nn.Module):
    r"""Sum of named losses with weights that may follow a ramp, and may be balanced automatically.

    .. math::
        L = \sum_i w_i(t)\, f_i\, L_i \quad\text{or, with uncertainties,}\quad
        L = \sum_i w_i(t) \big(e^{-s_i} L_i + \tfrac{1}{2} s_i\big)

    ``balance="none"``
        :math:`f_i = 1`.
    ``balance="magnitude"``
        So that no term drowns the others: :math:`f_i = \bar m / m_i`, where :math:`m_i` is a running mean of
        :math:`|L_i|`, the present step included, and :math:`\bar m` their mean by weight. Terms then contribute in
        proportion to their weights, and the sum keeps the size it had. Factors carry no gradient and stay in
        [1 / ``limit``, ``limit``], so a hinge that has gone to zero is not blown up without end.
    ``balance="uncertainty"``
        :math:`s_i = \ln \sigma_i^2` is learned, from 0: **give this module's parameters to the optimiser, without
        weight decay.** A noisy term gets a small factor, and pays :math:`s_i / 2` for it; the sum may become negative.

    Args:
        weights: By name a number >= 0, or a callable from the step to one (picklable if the module is to be:
            ``functools.partial(linear_ramp, start=5, end=20)``). Names are not empty and have no dot.
        balance: See above.
        momentum: Share of the old running mean that is kept in a training step, in [0, 1); for ``"magnitude"``.
        limit: Largest factor, >= 1; for ``"magnitude"``.
        distributed: Take the running means over all ranks, where each computes its terms on its own rows. Terms that
            were gathered are equal on all ranks, and need no more; does nothing where no process group runs.

    Raises:
        ValueError: If there are no weights, a name cannot be used, or a number is out of range.

    Example:
        >>> loss = WeightedSum({"id": 1.0, "supcon": lambda epoch: min(epoch / 10, 1.0)})
        >>> total, parts = loss({"id": torch.tensor(2.0), "supcon": torch.tensor(4.0)}, step=5)
        >>> total, parts["supcon"]
        (tensor(4.), tensor(2.))

    References:
        Kendall et al., Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018, eq. 10 with s = ln sigma^2
        (``"uncertainty"``).
    """

    def __init__(
        self,
        weights: Mapping[str, Weight],
        *,
        balance: Balance = "none",
        momentum: float = 0.99,
        limit: float = 10.0,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        if not weights:
            raise fail("WeightedSum", "at least one weight", "none")
        for name, weight in weights.items():
            if not name or "." in name:
                raise fail("WeightedSum", "names without a dot", repr(name))
            if not callable(weight):
                _check_weight("WeightedSum", name, weight)
        check_choice("WeightedSum", "balance", balance, ("none", "magnitude", "uncertainty"))
        check_fraction("WeightedSum", "momentum", momentum)
        check_at_least("WeightedSum", "limit", limit, 1)
        self.weights = dict(weights)
        self.balance: Balance = balance
        self.momentum = momentum
        self.limit = limit
        self.distributed = distributed
        for name in weights:
            if balance == "magnitude":  # 0: nothing seen yet
                self.register_buffer(f"magnitude_{name}", torch.zeros(()))
            if balance == "uncertainty":
                self.register_parameter(f"log_variance_{name}", nn.Parameter(torch.zeros(())))

    def forward(
        self, terms: Mapping[str, Tensor], *, step: int | None = None
    ) -> tuple[Float[Tensor, ""], Parts]:
        """Add the terms.

        Args:
            terms: A scalar loss for each name of the weights.
            step: Step or epoch that weights which are callables are asked for; needed if there are any.

        Returns:
            The sum, and by name what each term adds to it, without gradient; see :func:`sum_losses`.

        Raises:
            ValueError: As :func:`sum_losses` does, and where a weight needs a step.
        """
        _check_terms("WeightedSum", terms, self.weights)
        weights = {name: self._weight(name, weight, step) for name, weight in self.weights.items()}
        values = {name: exact(terms[name]) for name in weights}
        if self.balance == "uncertainty":
            values = {
                name: value / self._log_variance(name).exp() + 0.5 * self._log_variance(name)
                for name, value in values.items()
            }
        if self.balance == "magnitude":
            if self.training:
                self._follow(values)
            factors = self._factors(weights)
            values = {name: factors[name] * value for name, value in values.items()}
        return sum_losses(values, weights)

    def _weight(self, name: str, weight: Weight, step: int | None) -> float:
        if not callable(weight):
            return weight
        if step is None:
            raise fail(
                "WeightedSum",
                "a step",
                "none",
                f"The weight of {name!r} depends on it: pass step=epoch.",
            )
        return weight(step)

    def _log_variance(self, name: str) -> Tensor:
        return self.get_parameter(f"log_variance_{name}")

    def _magnitude(self, name: str) -> Tensor:
        return self.get_buffer(f"magnitude_{name}")

    @torch.no_grad()
    def _follow(self, values: Parts) -> None:
        """Update the running means; a value that is not finite is passed over."""
        seen = torch.stack([value.detach().abs() for value in values.values()])
        if self.distributed:
            seen = gather(seen[None]).mean(dim=0)
        for name, value in zip(values, seen, strict=True):
            held = self._magnitude(name)
            moved = torch.where(
                held > 0, held.lerp(value.to(held.dtype), 1 - self.momentum), value.to(held.dtype)
            )
            held.copy_(torch.where(value.isfinite(), moved, held))

    def _factors(self, weights: Mapping[str, float]) -> Parts:
        """Factor of each term; 1 while there is nothing to compare it with."""
        held = {name: self._magnitude(name) for name in weights}
        weight = torch.stack([weights[name] * (held[name] > 0) for name in weights])
        size = torch.stack([weights[name] * held[name] for name in weights]).sum() / weight.sum()
        factors = {
            name: (size / value).clamp(1 / self.limit, self.limit) for name, value in held.items()
        }
        return {
            name: torch.where((held[name] > 0) & (size > 0), factors[name], 1.0) for name in weights
        }

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return f"{self.weights}, balance={self.balance!r}, momentum={self.momentum}, limit={self.limit}"

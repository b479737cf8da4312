"""Sum of named losses, with weights that may change over time and balance themselves."""

import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_at_least,
    check_choice,
    check_fraction,
    check_number,
    describe,
    fail,
)
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import at_least_float32
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.argument_checks import check_changes_state_once

Weight = float | Callable[[int], float]
Balance = Literal["none", "magnitude", "uncertainty"]
Parts = dict[str, Tensor]


def sum_losses(
    terms: Mapping[str, Tensor], weights: Mapping[str, float]
) -> tuple[Float[Tensor, ""], Parts]:
    r"""Add losses by name, :math:`\sum_i w_i L_i`, and return each weighted term for the log.

    Args:
        terms: Losses, each a scalar tensor; float16 and bfloat16 are added in float32.
        weights: Weight :math:`w_i \ge 0` of each name; the same names as ``terms``. A weight of 0
            adds nothing, but keeps the term's parameters in the graph, as DDP requires.

    Returns:
        The sum, and by name the weighted terms that it consists of, without gradient. Nothing waits
        for the device. A term that is NaN (or infinite, also with a weight of 0) makes the sum NaN,
        and its part shows which one it was.

    Raises:
        ValueError: If a name is missing or unknown, a term is not a scalar, or a weight is negative
            or not finite.

    Example:
        >>> terms = {"id": torch.tensor(3.0), "triplet": torch.tensor(0.5)}
        >>> total, parts = sum_losses(terms, {"id": 1.0, "triplet": 2.0})
        >>> total, parts["triplet"]
        (tensor(4.), tensor(1.))
    """
    _check_terms("sum_losses", terms, weights)
    for name, weight in weights.items():
        _check_weight("sum_losses", name, weight)

    weighted = {name: weight * at_least_float32(terms[name]) for name, weight in weights.items()}
    total = torch.stack(list(weighted.values())).sum()

    return total, {name: term.detach() for name, term in weighted.items()}


def _check_weight(owner: str, name: str, weight: float) -> None:
    # Under torch.compile the weight of a ramp is symbolic: it can be compared, but is no number.
    if not torch.compiler.is_compiling():
        check_number(owner, f"weight of {name}", weight)
    if not 0 <= weight < math.inf:
        raise fail(owner, f"weight of {name} >= 0 and finite", weight)


def _check_terms(owner: str, terms: Mapping[str, Tensor], names: Iterable[str]) -> None:
    expected = list(names)

    for name in terms:
        if name not in expected:
            near = get_close_matches(name, expected, n=1)
            advice = f"Did you mean {near[0]!r}?" if near else "Give it a weight."
            raise ValueError(
                f"{owner}: there is no weight for the term {name!r}, only for "
                f"{', '.join(expected)}. {advice}"
            )

    for name in expected:
        if name not in terms:
            given = ", ".join(terms) or "none"
            raise ValueError(
                f"{owner}: the term {name!r} is missing; the given terms are: {given}. "
                "Leave a term that is switched off out of the weights, or give it a weight of 0."
            )

        _check_term(owner, name, terms[name])


def _check_term(owner: str, name: str, term: Tensor) -> None:
    if not isinstance(term, Tensor):
        raise fail(owner, f"term {name!r} as a tensor", type(term).__name__)

    if term.ndim > 0 or not term.is_floating_point():
        expected = f"term {name!r} as a floating-point scalar"
        raise fail(owner, expected, describe(term), "Take its mean.")


@fixed_options()
class WeightedSum(nn.Module):
    r"""Sum of named losses, with weights that may follow a ramp and may be balanced automatically.

    .. math::
        L = \sum_i w_i(t)\, f_i\, L_i \quad\text{or, with uncertainties,}\quad
        L = \sum_i w_i(t) \big(e^{-s_i} L_i + \tfrac{1}{2} s_i\big)

    ``balance="none"``
        :math:`f_i = 1`.
    ``balance="magnitude"``
        No term drowns the others: :math:`f_i = \bar m / m_i`, where :math:`m_i` is a running mean
        of :math:`|L_i|`, the present step included, and :math:`\bar m` their mean by weight. Terms
        then contribute in proportion to their weights, and the sum keeps its size. The factors
        carry no gradient and stay in [1 / ``limit``, ``limit``], so a hinge that has gone to zero
        is not amplified without bound.
    ``balance="uncertainty"``
        :math:`s_i = \ln \sigma_i^2` is learned, from 0: **give this module's parameters to the
        optimiser, without weight decay.** A noisy term gets a small factor, and pays
        :math:`s_i / 2` for it; the sum may become negative.

    Args:
        weights: By name a number >= 0, or a callable from the step to one (picklable if the module
            is to be pickled: ``functools.partial(linear_ramp, start=5, end=20)``). Names are not
            empty and contain no dot.
        balance: ``"none"``, ``"magnitude"`` or ``"uncertainty"``, as above.
        momentum: Share of the old running mean that is kept in a training step, in [0, 1); for
            ``"magnitude"``.
        limit: Largest factor, at least 1; for ``"magnitude"``.
        distributed: Take the running means over all ranks, where each rank computes its terms on
            its own rows. Gathered terms are equal on all ranks and do not need it. Has no effect
            without a process group.

    Raises:
        ValueError: If there are no weights, a name cannot be used, or a number is out of range.

    Example:
        >>> loss = WeightedSum({"id": 1.0, "supcon": lambda epoch: min(epoch / 10, 1.0)})
        >>> total, parts = loss({"id": torch.tensor(2.0), "supcon": torch.tensor(4.0)}, step=5)
        >>> total, parts["supcon"]
        (tensor(4.), tensor(2.))

    References:
        Kendall et al., Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018, eq. 10
        with s = ln sigma^2 (``"uncertainty"``).
    """

    balance: Final[Balance]

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
        _check_weights(weights)
        check_choice("WeightedSum", "balance", balance, ("none", "magnitude", "uncertainty"))
        check_fraction("WeightedSum", "momentum", momentum)
        check_at_least("WeightedSum", "limit", limit, 1)

        self.weights = dict(weights)
        self.balance: Balance = balance
        self.momentum = momentum
        self.limit = limit
        self.distributed = distributed

        for name in weights:
            # A magnitude of 0 means that no value was seen yet.
            if balance == "magnitude":
                self.register_buffer(f"magnitude_{name}", torch.zeros(()))
            if balance == "uncertainty":
                self.register_parameter(f"log_variance_{name}", nn.Parameter(torch.zeros(())))

    def forward(
        self, terms: Mapping[str, Tensor], *, step: int | None = None
    ) -> tuple[Float[Tensor, ""], Parts]:
        """Add the terms.

        Args:
            terms: A scalar loss for each name of the weights.
            step: Step or epoch that is passed to the weights that are callables; required if there
                are any.

        Returns:
            The sum, and by name what each term adds to it, without gradient; see
            :func:`sum_losses`.

        Raises:
            ValueError: As in :func:`sum_losses`, and if a weight needs a step.
        """
        _check_terms("WeightedSum", terms, self.weights)
        weights = {name: self._weight(name, weight, step) for name, weight in self.weights.items()}
        values = {name: at_least_float32(terms[name]) for name in weights}

        if self.balance == "uncertainty":
            values = {name: self._with_uncertainty(name, values[name]) for name in values}

        if self.balance == "magnitude":
            if self.training:
                check_changes_state_once("WeightedSum")
                self._update_magnitudes(values)
            factors = self._factors(weights)
            values = {name: factors[name] * value for name, value in values.items()}

        return sum_losses(values, weights)

    def _weight(self, name: str, weight: Weight, step: int | None) -> float:
        if not callable(weight):
            return weight

        if step is None:
            raise ValueError(
                f"WeightedSum: the weight of {name!r} depends on the step. Pass step=epoch."
            )

        return weight(step)

    def _with_uncertainty(self, name: str, value: Tensor) -> Tensor:
        # Not get_parameter: torch.func.functional_call puts plain tensors in its place.
        log_variance: Tensor = getattr(self, f"log_variance_{name}")
        return value / log_variance.exp() + 0.5 * log_variance

    def _options(self, values: Parts) -> tuple[object, ...]:
        """Options that every rank needs alike; of weights that are functions, the names."""
        numbers = {name: None if callable(w) else float(w) for name, w in self.weights.items()}
        return (list(values), numbers, self.balance, self.momentum, self.limit)

    @torch.no_grad()
    def _update_magnitudes(self, values: Parts) -> None:
        """Update the running means; values that are not finite are skipped."""
        sizes = torch.stack([value.detach().abs() for value in values.values()])
        if self.distributed:
            (sizes,) = gather_batch("WeightedSum", sizes[None], options=self._options(values))
            sizes = sizes.mean(dim=0)

        for name, size in zip(values, sizes, strict=True):
            magnitude = self._magnitude(name)
            new = size.to(magnitude.dtype)
            mean = torch.where(magnitude > 0, magnitude.lerp(new, 1 - self.momentum), new)
            magnitude.copy_(torch.where(size.isfinite(), mean, magnitude))

    def _magnitude(self, name: str) -> Tensor:
        return self.get_buffer(f"magnitude_{name}")

    def _factors(self, weights: Mapping[str, float]) -> Parts:
        """Factor of each term; 1 while there is nothing to compare it with."""
        magnitudes = {name: self._magnitude(name) for name in weights}
        weighted = torch.stack([weights[name] * magnitudes[name] for name in weights])
        seen_weights = torch.stack([weights[name] * (magnitudes[name] > 0) for name in weights])
        mean = weighted.sum() / seen_weights.sum()

        factors = {}
        for name, magnitude in magnitudes.items():
            factor = (mean / magnitude).clamp(1 / self.limit, self.limit)
            comparable = (magnitude > 0) & (mean > 0)
            factors[name] = torch.where(comparable, factor, 1.0)

        return factors

    def extra_repr(self) -> str:
        """Weights and options for ``print(module)``."""
        return (
            f"weights={self.weights}, balance={self.balance!r}, momentum={self.momentum}, "
            f"limit={self.limit}, distributed={self.distributed}"
        )


def _check_weights(weights: Mapping[str, Weight]) -> None:
    if not weights:
        raise fail("WeightedSum", "at least one weight", "none")

    for name, weight in weights.items():
        if not name or "." in name:
            raise ValueError(
                f"WeightedSum: {name!r} cannot be the name of a term. "
                "A name is not empty and has no dot, because buffers are named after it."
            )

        if not callable(weight):
            _check_weight("WeightedSum", name, weight)

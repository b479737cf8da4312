"""The work that is timed: one forward pass and one backward pass."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.measure import Work


def seeded(seed: int) -> torch.Generator:
    """A generator on the device of the benchmark, which is torch's default device."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


def step(rows: Tensor, loss: Callable[[Tensor], Tensor]) -> Work:
    """Forward and backward of a loss of fresh leaf rows."""

    def work() -> None:
        loss(rows.clone().requires_grad_()).backward()

    return work


def floor(rows: Tensor, columns: int) -> Work:
    """The matrix products that a loss of all pairs cannot avoid: one forward, two backward."""
    others = torch.randn(columns, rows.shape[1])

    def work() -> None:
        similarity = rows @ others.T
        similarity @ others
        similarity.T @ rows

    return work

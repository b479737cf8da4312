"""Notice that a tensor was changed in place."""

from typing import NamedTuple

import torch
from torch import Tensor


class WatchedTensor(NamedTuple):
    """A tensor that must not change, with its version.

    Attributes:
        name: What it is, for the error.
        tensor: The tensor.
        version: Number of changes in place; ``None`` where torch does not count them.
        value: A copy of a single number, which may be written without being changed.
    """

    name: str
    tensor: Tensor
    version: int | None
    value: Tensor | None

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> "WatchedTensor":
        """Begin to watch a tensor."""
        value = tensor.detach().clone() if tensor.numel() == 1 else None
        return cls(name, tensor, _version(tensor), value)

    def is_changed(self) -> bool:
        """Whether it was changed in place since."""
        if _version(self.tensor) == self.version:
            return False
        return self.value is None or not torch.equal(self.value, self.tensor.detach())


def _version(tensor: Tensor) -> int | None:
    """Number of changes in place, as autograd counts them."""
    return None if tensor.is_inference() else tensor._version  # noqa: SLF001 (no public name)

"""Modules that wrap another for several devices or for a compiler."""

from typing import TypeVar

from torch import nn
from torch.nn.parallel import DistributedDataParallel

Module = TypeVar("Module", bound=nn.Module)

_PARALLEL = (nn.DataParallel, DistributedDataParallel)


def is_parallel(module: object) -> bool:
    """Return whether a module is wrapped for several devices or processes."""
    return isinstance(module, _PARALLEL)


def unwrapped(owner: str, module: Module) -> Module:
    """Return the module that ``torch.compile`` wrapped, whose names have no prefix.

    Raises:
        ValueError: If the module is wrapped for several devices or processes.
    """
    if is_parallel(module):
        kind = type(module).__name__
        raise ValueError(f"{owner}: the module is wrapped by {kind}. Pass its .module.")

    compiled = getattr(module, "_orig_mod", None)
    return module if compiled is None else unwrapped(owner, compiled)

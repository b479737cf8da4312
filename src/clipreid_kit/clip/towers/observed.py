"""Modules whose calls somebody observes or changes: they are called as a whole."""

from torch import nn


def is_observed(*modules: nn.Module) -> bool:
    """Return whether a module has hooks of its own, which only a call of it runs."""
    return any(
        hooks
        for module in modules
        for hooks in (
            module._forward_hooks,  # noqa: SLF001 (torch has no public name for these)
            module._forward_pre_hooks,  # noqa: SLF001
            module._backward_hooks,  # noqa: SLF001
            module._backward_pre_hooks,  # noqa: SLF001
        )
    )


def is_plain_linear(module: nn.Module) -> bool:
    """Return whether a layer is its weight and bias alone: no adapter, no hook, nothing sharded."""
    return type(module) is nn.Linear and not is_observed(module)

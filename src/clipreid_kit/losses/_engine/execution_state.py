"""Random state and autocast of a forward pass, to run it a second time with the same result."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.utils.checkpoint import get_device_states, set_device_states

from clipreid_kit.losses._engine.nested_batch import tensors_in


class ExecutionState:
    """Random state and autocast in the first pass of a chunk, to be restored for the second."""

    def __init__(self, batch: object) -> None:
        tensors = list(tensors_in(batch))
        device_types = {tensor.device.type for tensor in tensors}
        accelerators = [tensor.device.type for tensor in tensors if tensor.device.type != "cpu"]

        self._cpu_state = torch.get_rng_state()
        self._devices, self._device_states = get_device_states(*tensors)
        self._device_type = accelerators[0] if accelerators else "cuda"

        # Device type, dtype, and whether autocast is enabled.
        self._autocasts: list[tuple[str, torch.dtype, bool]] = []
        for kind in sorted({"cpu", *device_types}):
            dtype = torch.get_autocast_dtype(kind)
            self._autocasts.append((kind, dtype, torch.is_autocast_enabled(kind)))
        self._cache_enabled = torch.is_autocast_cache_enabled()

    def uses_autocast(self) -> bool:
        """Whether autocast is enabled now on a device of the chunk."""
        return any(torch.is_autocast_enabled(kind) for kind, _, _ in self._autocasts)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restore the state inside the block, and the current one after it."""
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(self._devices, device_type=self._device_type))
            torch.set_rng_state(self._cpu_state)
            if self._device_states:
                set_device_states(self._devices, self._device_states)

            for kind, dtype, enabled in self._autocasts:
                stack.enter_context(
                    torch.autocast(
                        kind, dtype=dtype, enabled=enabled, cache_enabled=self._cache_enabled
                    )
                )

            yield

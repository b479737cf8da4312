"""CUDA tensors without a GPU: torch's fake tensors have a device, a shape and a dtype, no values.

A tensor that is made on another device is an error of the operation that meets it, and a value that
is read on the host is one of ``HOST_READS``.
"""

import contextlib

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

DEVICE = "cuda:0"
HOST_READS = DataDependentOutputException, DynamicOutputShapeException


@contextlib.contextmanager
def fake_cuda():
    """Within, every new tensor is fake, and CUDA is there."""
    with FakeTensorMode():
        yield


def to_cuda(value):
    """A fake tensor on the GPU like this one, or a module with such tensors in place of its own."""
    if isinstance(value, torch.Tensor):
        fake = torch.empty(value.shape, dtype=value.dtype, device=DEVICE)
        return fake.requires_grad_(value.requires_grad)

    for module in value.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                moved = to_cuda(parameter)
                module._parameters[name] = torch.nn.Parameter(moved, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = to_cuda(buffer)
    return value

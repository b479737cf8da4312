"""CUDA tensors without a GPU that hold values: they say that they are on a GPU, and compute here.

An operation that meets tensors on the CPU and on the GPU is an error, as it is on a GPU, and every
time that the CPU waits for a value of the GPU is noted. See :mod:`fake_cuda` for torch's own rules
of devices, without values.
"""

import contextlib
import traceback
from pathlib import Path
from unittest import mock

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only

CUDA = torch.device("cuda:0")
CPU = torch.device("cpu")
SOURCE = Path(__file__).resolve().parents[2] / "src" / "clipreid_kit"

aten = torch.ops.aten

# What a GPU hands to the CPU: a value, or a shape that depends on values.
READS = {
    aten._local_scalar_dense,
    aten.equal,
    aten.is_nonzero,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.bincount,
    aten.repeat_interleave,
}

# Indices may be on the CPU.
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class OnCuda(torch.Tensor):
    """A tensor of the CPU that says it is on a GPU."""

    @staticmethod
    def __new__(cls, values):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=CUDA,
        )

    def __init__(self, values):
        self.values_on_cpu = values

    def __repr__(self):
        return f"OnCuda({self.values_on_cpu})"

    def tolist(self):
        return self.cpu().tolist()  # torch's own refuses a subclass

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), options=None):
        if function is torch.ops.prim.device.default:
            return CUDA
        raise AssertionError(f"{function} outside pretend_cuda()")


class PretendCuda(TorchDispatchMode):
    """Runs every operation, notes the waits in ``reads``: file and line of the library."""

    def __init__(self):
        super().__init__()
        self.reads = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function is torch.ops.prim.device.default:
            return CUDA if isinstance(arguments[0], OnCuda) else CPU

        options = dict(options or {})
        tensors = [x for x in tree_flatten((arguments, options))[0] if isinstance(x, torch.Tensor)]
        has_cuda = any(isinstance(tensor, OnCuda) for tensor in tensors)
        device = self._device_of_result(function, tensors, options, has_cuda)
        if has_cuda:
            self._note_a_read(function, arguments, device)

        options = {key: CPU if key == "device" else value for key, value in options.items()}
        options.pop("pin_memory", None)
        results = function(*tree_map(_values, arguments), **tree_map(_values, options))
        if device.type == "cpu":
            return results

        # An operation in place returns the tensor that it was given.
        given = {id(x.values_on_cpu): x for x in tensors if isinstance(x, OnCuda)}
        return tree_map_only(
            torch.Tensor, lambda x: given[id(x)] if id(x) in given else OnCuda(x), results
        )

    def _device_of_result(self, function, tensors, options, has_cuda):
        wanted = options.get("device")
        if wanted is not None:
            return torch.device(wanted)
        if function.overloadpacket in (aten.copy_, aten._to_copy):
            return tensors[0].device
        if not has_cuda:
            return CPU

        # A number in a tensor may be on the CPU, and so may indices.
        mixed = [x for x in tensors if not isinstance(x, OnCuda) and x.ndim > 0]
        if function.overloadpacket in INDEXING and isinstance(tensors[0], OnCuda):
            mixed = [x for x in mixed if x.is_floating_point()]
        if mixed:
            raise RuntimeError(f"{function}: tensors on cuda:0 and on the CPU")
        return CUDA

    def _note_a_read(self, function, arguments, device):
        packet = function.overloadpacket
        by_mask = packet in INDEXING and any(
            isinstance(x, OnCuda) and x.dtype == torch.bool for x in tree_flatten(arguments[1])[0]
        )
        leaves = packet is aten._to_copy and device.type == "cpu"
        leaves |= packet is aten.copy_ and not isinstance(arguments[0], OnCuda)
        if packet in READS or by_mask or leaves:
            self.reads.append(_line_of_the_library())


def _values(x):
    return x.values_on_cpu if isinstance(x, OnCuda) else x


def _line_of_the_library():
    """Function of the library that is running, as ``losses/triplet.py:triplet_loss``."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(SOURCE):
            return f"{path.relative_to(SOURCE).as_posix()}:{frame.name}"
    return "outside"


@contextlib.contextmanager
def pretend_cuda():
    """Within, ``x.to("cuda")`` works; yields the mode, which notes the waits for the GPU."""
    torch._C._ensureCUDADeviceGuardSet()  # as torch's fake tensors do: streams of no device
    plain_attention = sdpa_kernel(SDPBackend.MATH)  # kernels for GPUs alone do not run here
    with mock.patch.object(torch.cuda, "_lazy_init"), plain_attention, PretendCuda() as mode:
        yield mode


def to_cuda(value):
    """The same tensor on the GPU, or a module with its tensors there."""
    if isinstance(value, torch.Tensor):
        return OnCuda(value.detach().clone()).requires_grad_(value.requires_grad)

    for module in value.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                moved = to_cuda(parameter.detach())
                module._parameters[name] = torch.nn.Parameter(moved, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = to_cuda(buffer)
    return value

"""With FSDP2, which keeps a part of every weight on each rank, two processes equal one."""

import inspect

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from clip.methods.test_methods_distributed import (
    METHODS,
    ROWS_OF_RANK,
    build_method,
    loss_and_gradients,
)
from torch.distributed import fsdp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

HAS_IGNORED = hasattr(fsdp, "fully_shard") and (
    "ignored_params" in inspect.signature(fsdp.fully_shard).parameters
)


def shard(method):
    """Shard each block of the image tower, and the rest; FSDP2 cannot shard a single number."""
    mesh = init_device_mesh("cpu", (2,))
    numbers = {parameter for parameter in method.parameters() if parameter.ndim == 0}
    for block in method.towers.model.visual.transformer.resblocks:
        fsdp.fully_shard(block, mesh=mesh)
    fsdp.fully_shard(method, mesh=mesh, ignored_params=numbers)


def run_rank(rank, port, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for name in METHODS:
        method = build_method(name, distributed=True)
        shard(method)
        loss, gradients = loss_and_gradients(name, ROWS_OF_RANK[rank], method, method)

        whole = {}
        for key, gradient in gradients.items():
            whole[key] = gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
        torch.save((loss, whole), f"{folder}/{name}{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not HAS_IGNORED, reason="this torch cannot leave single numbers unsharded")
def test_two_processes_equal_one(free_port, tmp_path):
    mp.spawn(run_rank, args=(free_port, str(tmp_path)), nprocs=2)

    for name in METHODS:
        method = build_method(name, distributed=False)
        expected_loss, expected = loss_and_gradients(name, slice(None), method, method)
        for rank in range(2):
            loss, gradients = torch.load(tmp_path / f"{name}{rank}.pt")
            assert loss == pytest.approx(expected_loss, rel=1e-4)
            assert gradients.keys() == expected.keys()
            for key, gradient in gradients.items():
                torch.testing.assert_close(gradient, expected[key], atol=2e-5, rtol=1e-3, msg=key)

"""Two processes, one method: DDP's averaged gradient is that of one process with the whole batch (gloo)."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from clipreid_kit.clip import (
    ClipBaseline,
    ClipReID,
    ClipReIDPromptStage,
    ClipTowers,
    IdentityPromptLearner,
    PromptSG,
)

SIZE = (64, 32)
NAMES = ("prompts", "clip_reid", "prompt_sg", "baseline")
LABELS = torch.tensor([0, 0, 1, 1, 2, 0, 2])
SPLIT = 4  # rank 0 has four rows, rank 1 has three: a ragged last batch
TOKENS = torch.arange(21).reshape(7, 3) % 5 + 300  # the end of a text is its largest number
JOINT = {
    "id": 0.5,
    "triplet": 1.0,
    "center": 0.01,
    "prototype": 0.1,
    "supcon_image": 0.3,
    "supcon_text": 0.4,
}
JOINT |= {"info_nce": 0.2, "hard_negative": 0.2, "triplet_text": 0.3}
TERMS = {
    "id": 0.5,
    "triplet": 1.0,
    "image_to_text": 0.7,
    "supcon": 0.3,
    "arcface": 0.2,
    "center": 0.01,
}


def method(name, distributed):
    torch.manual_seed(0)
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE)
    if name == "prompts":
        return ClipReIDPromptStage(
            towers, IdentityPromptLearner(towers, 3), distributed=distributed
        )
    if name == "clip_reid":
        return ClipReID(
            towers, torch.randn(3, 128), weights=TERMS, image_blocks=1, distributed=distributed
        )
    if name == "baseline":
        return ClipBaseline(
            towers, 3, weights=JOINT, image_blocks=1, text_blocks=1, distributed=distributed
        )
    return PromptSG(towers, 3, image_blocks=1, distributed=distributed)


def batch(name):
    torch.manual_seed(1)
    return torch.randn(7, 128) if name == "prompts" else torch.randn(7, 3, *SIZE)


def gradients(name, rows, wrapped, inner):
    # BatchNorm in evaluation: statistics of the whole batch are SyncBatchNorm's matter
    wrapped.eval()
    also = {"tokens": TOKENS[rows]} if name == "baseline" else {}
    loss = wrapped(batch(name)[rows], LABELS[rows], **also).loss
    loss.backward()
    return loss.item(), {
        key: p.grad.clone() for key, p in inner.named_parameters() if p.grad is not None
    }


def run_rank(rank, port, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    rows = slice(0, SPLIT) if rank == 0 else slice(SPLIT, None)
    for name in NAMES:
        inner = method(name, distributed=True)
        wrapped = torch.nn.parallel.DistributedDataParallel(inner)
        torch.save(gradients(name, rows, wrapped, inner), f"{folder}/{name}{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(free_port, tmp_path):
    mp.spawn(run_rank, args=(free_port, str(tmp_path)), nprocs=2)
    for name in NAMES:
        model = method(name, distributed=False)
        whole, expected = gradients(name, slice(None), model, model)
        for rank in range(2):
            loss, found = torch.load(tmp_path / f"{name}{rank}.pt")
            assert loss == pytest.approx(whole, rel=1e-4)
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                torch.testing.assert_close(
                    found[key],
                    value,
                    atol=2e-5,
                    rtol=1e-3,
                    msg=lambda text, at=key: f"{at}: {text}",
                )

"""Two processes, one loss: the averaged gradient is that of one process with the whole batch (gloo)."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from clipreid_kit.distributed import gather, world_size
from clipreid_kit.losses import InfoNCELoss, SupConLoss, TripletLoss

LABELS = [0, 0, 1, 1, 2, 0, 2]
SPLIT = 4  # rank 0 has four rows, rank 1 has three: a ragged last batch


def losses(distributed):
    return {
        "supcon": SupConLoss(distributed=distributed),
        "supcon-text": SupConLoss(distributed=distributed),
        "info_nce": InfoNCELoss(distributed=distributed),
        "triplet": TripletLoss(distributed=distributed),
        "triplet-all": TripletLoss(mining="all", distributed=distributed),
    }


def value(name, loss, model, rows, labels):
    embeddings = model(rows)
    if name == "info_nce":
        return loss(embeddings, model(rows.flip(1)))
    if name == "supcon-text":
        return loss(embeddings, labels, model(rows.flip(1)), labels)
    return loss(embeddings, labels)


def setting():
    torch.manual_seed(3)
    return torch.nn.Linear(6, 4), torch.randn(len(LABELS), 6), torch.tensor(LABELS)


def worker(rank, port, queue):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        model, rows, labels = setting()
        mine = slice(None, SPLIT) if rank == 0 else slice(SPLIT, None)
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        found = {}
        for name, loss in losses(True).items():
            wrapped.zero_grad()
            if name in ("info_nce", "supcon-text"):  # one forward for both towers: DDP counts forwards

                def both(x):
                    return wrapped(torch.cat([x, x.flip(1)])).chunk(2)

                images, texts = both(rows[mine])
                own = labels[mine]
                result = loss(images, texts) if name == "info_nce" else loss(images, own, texts, own)
            else:
                result = value(name, loss, wrapped, rows[mine], labels[mine])
            result.backward()
            found[name] = (result.item(), model.weight.grad.clone().tolist())
        found["order"] = gather(labels[mine]).tolist()
        queue.put((rank, found))
    finally:
        dist.destroy_process_group()


def test_two_ranks_give_the_gradient_of_one(free_port):
    context = mp.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=worker, args=(rank, free_port, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    results = dict(queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert results[0]["order"] == results[1]["order"] == LABELS
    for name, loss in losses(False).items():
        model, rows, labels = setting()
        whole = value(name, loss, model, rows, labels)
        whole.backward()
        for rank in range(2):
            got, gradient = results[rank][name]
            assert got == pytest.approx(whole.item(), rel=1e-5), name
            torch.testing.assert_close(torch.tensor(gradient), model.weight.grad, atol=1e-6, rtol=1e-4)


def test_without_a_process_group_nothing_changes():
    rows = torch.randn(3, 2)
    assert world_size() == 1
    assert gather(rows) is rows
    with pytest.raises(ValueError, match="gather: expected a tensor with rows, got a scalar"):
        gather(torch.tensor(1.0))

"""One training on several processes: torchrun --standalone --nproc-per-node 2 -m examples.two_processes.

Losses see the batches of all; each evaluates its share of the images, and all get the result of the whole.
"""

import os
import tempfile

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from clipreid_kit import (
    GeM,
    PKSampler,
    ReidEvaluator,
    ReidResult,
    SupConLoss,
    TripletLoss,
    evaluate_reid,
)
from clipreid_kit.data import (
    ReidDataset,
    SyntheticReid,
    eval_transform,
    records_of,
    train_transform,
)
from clipreid_kit.distributed import gather

SIZE = (32, 32)


def layers(inside: int, outside: int) -> list[nn.Module]:
    """A block whose norm needs nothing from other processes; with BatchNorm, see nn.SyncBatchNorm."""
    return [nn.Conv2d(inside, outside, 3, stride=2, padding=1), nn.GroupNorm(8, outside), nn.ReLU()]


@torch.no_grad()
def evaluate(
    tower: nn.Module, query: ReidDataset, gallery: ReidDataset, device: torch.device
) -> ReidResult:
    """Every process encodes its share, each image once; checked against one process that has all embeddings."""
    evaluator, joined = ReidEvaluator(distributed=True), []
    for data in (query, gallery):
        rows = list(range(dist.get_rank(), len(data), dist.get_world_size()))
        embeddings = tower(torch.stack([data[row].image for row in rows]).to(device))
        labels = data.labels[rows].to(device)
        evaluator.update(embeddings, labels, split="query" if data is query else "gallery")
        joined += [gather(embeddings), gather(labels)]
    result, alone = (
        evaluator.compute(),
        evaluate_reid(joined[0], joined[2], query_ids=joined[1], gallery_ids=joined[3]),
    )
    if result.to_dict() != alone.to_dict():
        raise RuntimeError(f"expected {alone}, got {result}")
    return result


def main(num_identities: int = 120, epochs: int = 8) -> None:
    """Train and evaluate; the first process prints."""
    if "RANK" not in os.environ:  # torchrun sets these
        os.environ |= {
            "RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "0",
        }
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    device = torch.device(
        f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    )
    augment, plain = train_transform(SIZE, pad=3), eval_transform(SIZE)
    with tempfile.TemporaryDirectory() as folder:  # each process draws the same images
        records = SyntheticReid(num_identities, views_per_camera=2, image_size=SIZE).write(folder)
        train = ReidDataset(records_of(records, "train"), augment, cache=True)
        query = ReidDataset(records_of(records, "query"), plain, cache=True)
        gallery = ReidDataset(
            records_of(records, "gallery"), plain, cache=True, identities=query.identities
        )
    torch.manual_seed(0)
    tower = nn.Sequential(
        *layers(3, 32), *layers(32, 64), *layers(64, 128), GeM(), nn.Linear(128, 128)
    ).to(device)
    before, model = evaluate(tower, query, gallery, device), DistributedDataParallel(tower)
    supcon, triplet = (
        SupConLoss(0.1, distributed=True),
        TripletLoss(0.2, distance="cosine", distributed=True),
    )
    # 16 identities in a step on any number of processes up to 16; in one step all of them differ
    rank, size = dist.get_rank(), dist.get_world_size()
    sampler = PKSampler(train.labels, 16 // size, 4, coverage="images", rank=rank, world_size=size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        train.set_epoch(epoch)
        for item in DataLoader(train, batch_sampler=sampler):
            embeddings, labels = model(item.image.to(device)), item.label.to(device)
            loss = supcon(embeddings, labels) + triplet(embeddings, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    after = evaluate(tower, query, gallery, device)
    if rank == 0:
        print(f"processes: {size}\nbefore {before}\nafter  {after}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

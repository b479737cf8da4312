"""Train on several processes: torchrun --standalone --nproc-per-node 2 -m examples.two_processes.

Losses see the batches of all processes. Each process evaluates its share of the images, and all get
the whole result.
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

IMAGE_SIZE = (32, 32)


def block(in_channels: int, out_channels: int) -> list[nn.Module]:
    """A convolution with a norm per image; with BatchNorm, use nn.SyncBatchNorm."""
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
    return [convolution, nn.GroupNorm(8, out_channels), nn.ReLU()]


@torch.no_grad()
def evaluate(tower: nn.Module, query: ReidDataset, gallery: ReidDataset) -> ReidResult:
    """Evaluate a share on each process, and compare with the result of one process."""
    device = next(tower.parameters()).device
    evaluator = ReidEvaluator(distributed=True)
    everything = []

    for data in (query, gallery):
        rows = list(range(dist.get_rank(), len(data), dist.get_world_size()))
        embeddings = tower(torch.stack([data[row].image for row in rows]).to(device))
        labels = data.labels[rows].to(device)
        evaluator.update(embeddings, labels, split="query" if data is query else "gallery")
        everything += [gather(embeddings), gather(labels)]
    result = evaluator.compute()

    query_embeddings, query_ids, gallery_embeddings, gallery_ids = everything
    expected = evaluate_reid(
        query_embeddings, gallery_embeddings, query_ids=query_ids, gallery_ids=gallery_ids
    )
    if result.to_dict() != expected.to_dict():
        raise RuntimeError(f"One process with all embeddings finds {expected}, several {result}.")
    return result


def start() -> torch.device:
    """Join the other processes, and return the device of this one."""
    if "RANK" not in os.environ:  # started without torchrun: one process
        os.environ |= {"RANK": "0", "WORLD_SIZE": "1"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}

    if not torch.cuda.is_available():
        dist.init_process_group("gloo")
        return torch.device("cpu")

    dist.init_process_group("nccl")
    return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")


def draw_images(num_identities: int) -> tuple[ReidDataset, ReidDataset, ReidDataset]:
    """Images to train on, queries and gallery; each process draws the same."""
    augment, plain = train_transform(IMAGE_SIZE, pad=3), eval_transform(IMAGE_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        images = SyntheticReid(num_identities, views_per_camera=2, image_size=IMAGE_SIZE)
        records = images.write(folder)

        train = ReidDataset(records_of(records, "train"), augment, cache=True)
        query = ReidDataset(records_of(records, "query"), plain, cache=True)
        gallery = ReidDataset(
            records_of(records, "gallery"), plain, cache=True, identities=query.identities
        )
    return train, query, gallery


def train_tower(tower: nn.Module, train: ReidDataset, device: torch.device, epochs: int) -> None:
    """Train on 16 identities per step over all processes, none of them on two processes."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    sampler = PKSampler(
        train.labels, 16 // world_size, 4, coverage="images", rank=rank, world_size=world_size
    )
    loader = DataLoader(train, batch_sampler=sampler)

    model = DistributedDataParallel(tower)
    supcon = SupConLoss(0.1, distributed=True)
    triplet = TripletLoss(0.2, distance="cosine", distributed=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        train.set_epoch(epoch)

        for batch in loader:
            embeddings, labels = model(batch.image.to(device)), batch.label.to(device)
            loss = supcon(embeddings, labels) + triplet(embeddings, labels)

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def main(num_identities: int = 120, epochs: int = 8) -> None:
    """Train and evaluate; the first process prints."""
    device = start()
    train, query, gallery = draw_images(num_identities)

    torch.manual_seed(0)
    blocks = [*block(3, 32), *block(32, 64), *block(64, 128)]
    tower = nn.Sequential(*blocks, GeM(), nn.Linear(128, 128)).to(device)

    before = evaluate(tower, query, gallery)
    train_tower(tower, train, device, epochs)
    after = evaluate(tower, query, gallery)

    if dist.get_rank() == 0:
        print(f"processes: {dist.get_world_size()}\nbefore {before}\nafter  {after}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

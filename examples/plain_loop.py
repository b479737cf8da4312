"""Pieces of the library in a plain PyTorch loop: python -m examples.plain_loop.

Batches of P identities x K images, three losses, a warm-up, and the evaluation of unseen identities before and after.
"""

import tempfile

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from clipreid_kit.data import (
    ReidDataset,
    SyntheticReid,
    eval_transform,
    records_of,
    train_transform,
)
from clipreid_kit.losses import ArcFaceHead, SupConLoss, TripletLoss
from clipreid_kit.metrics import ReidResult, evaluate_reid
from clipreid_kit.modules import BNNeck, GeM
from clipreid_kit.samplers import PKSampler
from clipreid_kit.schedulers import WarmupCosineLR

SIZE, DIM = (32, 32), 128


def layers(inside: int, outside: int) -> list[nn.Module]:
    """One of the tower's three blocks; any encoder that gives (N, D) can stand in its place."""
    return [
        nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    ]


@torch.no_grad()
def evaluate(tower: nn.Module, query: ReidDataset, gallery: ReidDataset) -> ReidResult:
    """Search each query among the images that other cameras took."""
    tower.eval()
    images = [
        torch.stack([part[row].image for row in range(len(part))]) for part in (query, gallery)
    ]
    query_embeddings, gallery_embeddings = map(tower, images)
    tower.train()
    return evaluate_reid(
        query_embeddings,
        gallery_embeddings,
        query_ids=query.labels,
        gallery_ids=gallery.labels,
        query_cameras=query.cameras,
        gallery_cameras=gallery.cameras,
    )


def main(num_identities: int = 160, epochs: int = 8) -> tuple[ReidResult, ReidResult]:
    """Train, and return the results before and after."""
    torch.manual_seed(0)
    augment, plain = train_transform(SIZE, pad=3, color_jitter=0.3), eval_transform(SIZE)
    with tempfile.TemporaryDirectory() as folder:
        records = SyntheticReid(num_identities, views_per_camera=2, image_size=SIZE).write(folder)
        train = ReidDataset(records_of(records, "train"), augment, cache=True)
        query = ReidDataset(records_of(records, "query"), plain, cache=True)
        gallery = ReidDataset(
            records_of(records, "gallery"), plain, cache=True, identities=query.identities
        )
    tower = nn.Sequential(
        *layers(3, 32), *layers(32, 64), *layers(64, 128), GeM(), nn.Linear(128, DIM)
    )
    neck, head = BNNeck(DIM), ArcFaceHead(DIM, len(train.identities), margin=0.3)
    supcon, triplet = SupConLoss(temperature=0.1), TripletLoss(margin=0.2, distance="cosine")
    before = evaluate(tower, query, gallery)

    sampler = PKSampler(
        train.labels, num_identities=16, num_instances=4, coverage="images", cameras=train.cameras
    )
    loader = DataLoader(train, batch_sampler=sampler)
    optimizer = torch.optim.AdamW(nn.ModuleList([tower, neck, head]).parameters(), lr=3e-3)
    schedule = WarmupCosineLR(optimizer, warmup_steps=len(loader), total_steps=epochs * len(loader))
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        train.set_epoch(epoch)
        for image, label, _camera, _index in loader:
            features, normalised = neck(tower(image))
            loss = supcon(features, label) + triplet(features, label)
            loss = loss + 0.1 * F.cross_entropy(head(normalised, label), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
    return before, evaluate(tower, query, gallery)


if __name__ == "__main__":
    print(*main(), sep="\n")

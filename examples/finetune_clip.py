"""Fine-tune CLIP for re-identification: python -m examples.finetune_clip [IMAGES].

IMAGES is a folder with train/, query/ and gallery/, or Omniglot's zip file.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from clipreid_kit import (
    ArcFaceHead,
    BNNeck,
    PKSampler,
    ReidResult,
    SupConLoss,
    WarmupCosineLR,
)
from clipreid_kit.clip import ClipTowers
from clipreid_kit.data import (
    ImageRecord,
    ReidDataset,
    encode_images,
    eval_transform,
    evaluate_records,
    records_of,
    train_transform,
)
from examples.example_images import read_images

# for photographs: "ViT-B-16-quickgelu", "openai", (256, 128), and a rate of 1e-5
MODEL = "reid-tiny-resnet"
WEIGHTS = None
IMAGE_SIZE = (64, 64)
LEARNING_RATE = 3e-3


def encode(model: Callable[[Tensor], Any], records: list[ImageRecord]) -> Tensor:
    """Embeddings (N, D) of images, without augmentation."""
    images = ReidDataset(records, eval_transform(IMAGE_SIZE))
    return encode_images(model, DataLoader(images, batch_size=128))


def evaluate(model: Callable[[Tensor], Any], records: list[ImageRecord]) -> ReidResult:
    """Rank the gallery for each query; the training identities are in neither."""
    query, gallery = records_of(records, "query"), records_of(records, "gallery")
    embeddings = encode(model, query), encode(model, gallery)
    return evaluate_records(*embeddings, query, gallery)


def main(records: list[ImageRecord], epochs: int = 10) -> tuple[ReidResult, ReidResult]:
    """Train, and return the results before and after."""
    torch.manual_seed(0)
    towers = ClipTowers.from_open_clip(MODEL, WEIGHTS, image_size=IMAGE_SIZE)
    before = evaluate(towers.encode_image, records)

    # batches of 16 identities with 4 images each
    augment = train_transform(IMAGE_SIZE, horizontal_flip=0.0, pad=6, color_jitter=0.3)
    train = ReidDataset(records_of(records, "train"), augment, cache=True)
    sampler = PKSampler(train.labels, 16, 4, coverage="images")
    loader = DataLoader(train, batch_sampler=sampler)

    # SupCon pulls the images of an identity together;
    # behind a batch norm, ArcFace tells the identities apart
    supcon = SupConLoss(temperature=0.1)
    neck = BNNeck(towers.embed_dim)
    head = ArcFaceHead(towers.embed_dim, train.num_identities, margin=0.3)

    trained = [*towers.image_parameters(), *neck.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.01)
    num_steps = epochs * len(sampler)
    schedule = WarmupCosineLR(optimizer, num_steps // 10, num_steps)

    towers.train()
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        train.set_epoch(epoch)

        for batch in loader:
            features, normalised = neck(towers.encode_image(batch.image))
            logits = head(normalised, batch.label)
            loss = supcon(features, batch.label)
            loss = loss + 0.1 * cross_entropy(logits, batch.label)

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")

    return before, evaluate(towers.encode_image, records)


if __name__ == "__main__":
    print(*main(read_images(sys.argv[1:])), sep="\n")

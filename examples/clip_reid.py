"""Both stages of CLIP-ReID: python -m examples.clip_reid [IMAGES].

IMAGES is a folder with train/, query/ and gallery/, or Omniglot's zip file.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from clipreid_kit import PKSampler, ReidResult
from clipreid_kit.clip import ClipReID, ClipReIDPromptStage, ClipTowers, IdentityPromptLearner
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

# for photographs: "ViT-B-16-quickgelu", "openai", (256, 128), rates 3.5e-4 and 5e-6
MODEL = "reid-tiny-resnet"
WEIGHTS = None
IMAGE_SIZE = (64, 64)


def encode(model: Callable[[Tensor], Any], records: list[ImageRecord]) -> Tensor:
    """Embeddings (N, D) of images, without augmentation."""
    images = ReidDataset(records, eval_transform(IMAGE_SIZE))
    return encode_images(model, DataLoader(images, batch_size=128))


def evaluate(model: Callable[[Tensor], Any], records: list[ImageRecord]) -> ReidResult:
    """Rank the gallery for each query; the training identities are in neither."""
    query, gallery = records_of(records, "query"), records_of(records, "gallery")
    embeddings = encode(model, query), encode(model, gallery)
    return evaluate_records(*embeddings, query, gallery)


def learn_texts(towers: ClipTowers, train: ReidDataset, epochs: int) -> Tensor:
    """First stage: learn a text per identity (C, D) against frozen features."""
    prompts = IdentityPromptLearner(towers, train.num_identities, "A photo of a {tokens} figure.")
    stage = ClipReIDPromptStage(towers, prompts, temperature=0.01, normalize=True)
    features = encode(stage.image_embeddings, list(train.records))

    optimizer = torch.optim.Adam(prompts.parameters(), lr=3e-3)
    for epoch in range(epochs):
        for rows in torch.split(torch.randperm(len(features)), 64):
            loss = stage(features[rows], train.labels[rows]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"prompts, epoch {epoch + 1}: loss {loss.item():.3f}")

    with torch.no_grad():
        return prompts.encode_all(towers)


def train_image_tower(model: ClipReID, train: ReidDataset, epochs: int) -> None:
    """Second stage: train the image tower against the texts."""
    sampler = PKSampler(train.labels, 16, 4, coverage="images")
    loader = DataLoader(train, batch_sampler=sampler)

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.01)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        train.set_epoch(epoch)
        for batch in loader:
            output = model(batch.image, batch.label)
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
        print(f"image tower, epoch {epoch + 1}: loss {output.loss.item():.3f}")


def main(
    records: list[ImageRecord], prompt_epochs: int = 30, epochs: int = 10
) -> tuple[ReidResult, ReidResult]:
    """Run both stages, and return the results before and after."""
    torch.manual_seed(0)
    towers = ClipTowers.from_open_clip(MODEL, WEIGHTS, image_size=IMAGE_SIZE)
    before = evaluate(towers.encode_image, records)

    augment = train_transform(IMAGE_SIZE, horizontal_flip=0.0, pad=6, color_jitter=0.3)
    train = ReidDataset(records_of(records, "train"), augment, cache=True)

    model = ClipReID(towers, learn_texts(towers, train, prompt_epochs))
    train_image_tower(model, train, epochs)
    return before, evaluate(model, records)


if __name__ == "__main__":
    print(*main(read_images(sys.argv[1:])), sep="\n")

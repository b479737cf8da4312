"""PromptSG, which makes a text of each image: python -m examples.prompt_sg [IMAGES].

IMAGES is a folder with train/, query/ and gallery/, or Omniglot's zip file.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from clipreid_kit import PKSampler, ReidResult, WarmupCosineLR
from clipreid_kit.clip import ClipTowers, PromptComposer, PromptSG
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

# for photographs: "ViT-B-16-quickgelu", "openai", (256, 128), and a rate of 5e-6
MODEL = "reid-tiny-resnet"
WEIGHTS = None
IMAGE_SIZE = (64, 64)
SENTENCE = "A photo of a {tokens} figure."
LEARNING_RATE = 1e-3


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

    # an inversion network makes a pseudo word of each image;
    # the sentence with that word attends to the patches of the image
    composer = PromptComposer(towers, SENTENCE)
    model = PromptSG(towers, train.num_identities, composer=composer)

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.01)
    num_steps = epochs * len(sampler)
    schedule = WarmupCosineLR(optimizer, num_steps // 10, num_steps)

    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        train.set_epoch(epoch)

        for batch in loader:
            output = model(batch.image, batch.label)

            optimizer.zero_grad()
            output.loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 5.0)
            optimizer.step()
            schedule.step()

        terms = ", ".join(f"{name} {term:.3f}" for name, term in output.terms.items())
        print(f"epoch {epoch + 1}: {terms}")

    return before, evaluate(model, records)


if __name__ == "__main__":
    print(*main(read_images(sys.argv[1:])), sep="\n")

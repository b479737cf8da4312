"""Fine-tune the last block of a ViT alone: python -m examples.frozen_prefix [IMAGES].

The frozen blocks run once for each augmented copy of an image, and not in every epoch.
"""

import sys
import tempfile
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from clipreid_kit import PKSampler, ReidResult, SupConLoss
from clipreid_kit.clip import ClipTowers, FrozenPrefix, PrefixCache, unfreeze_last_blocks
from clipreid_kit.data import (
    ImageRecord,
    ReidDataset,
    encode_images,
    eval_transform,
    evaluate_records,
    image_fingerprint,
    records_of,
    train_transform,
)
from examples.example_images import read_images

# for photographs: "ViT-B-16-quickgelu", "openai", (256, 128), 4 blocks, and a rate of 1e-5
MODEL = "reid-tiny-vit"
IMAGE_SIZE = (64, 64)
TRAINED_BLOCKS = 1
COPIES = 4


def evaluate(towers: ClipTowers, records: list[ImageRecord]) -> ReidResult:
    """Rank the gallery for each query, with the whole tower."""
    query, gallery = records_of(records, "query"), records_of(records, "gallery")
    transform = eval_transform(IMAGE_SIZE)

    embeddings = []
    for split in (query, gallery):
        loader = DataLoader(ReidDataset(split, transform), batch_size=64)
        embeddings.append(encode_images(towers.encode_image, loader))

    return evaluate_records(embeddings[0], embeddings[1], query, gallery)


def store(folder: str, prefix: FrozenPrefix, records: list[ImageRecord]) -> PrefixCache:
    """Run the frozen blocks for some augmented copies of every training image."""
    augment = train_transform(IMAGE_SIZE, horizontal_flip=0.0, pad=6)
    dataset = ReidDataset(records, augment)

    def batches(copy: int) -> Iterator[Tensor]:
        dataset.set_epoch(copy)
        for batch in DataLoader(dataset, batch_size=64):
            yield batch.image

    return PrefixCache.create(
        folder,
        prefix,
        batches,
        num_images=len(dataset),
        fingerprint=f"{image_fingerprint(records)} {augment}",
        copies=COPIES,
    )


def main(records: list[ImageRecord], epochs: int = 8) -> tuple[ReidResult, ReidResult]:
    """Train, and return the results before and after."""
    torch.manual_seed(0)
    towers = ClipTowers.from_open_clip(MODEL, image_size=IMAGE_SIZE)
    before = evaluate(towers, records)

    train = records_of(records, "train")
    labels = ReidDataset(train, eval_transform(IMAGE_SIZE)).labels
    unfreeze_last_blocks(towers, TRAINED_BLOCKS)
    prefix = FrozenPrefix(towers, TRAINED_BLOCKS)

    trained = [parameter for parameter in towers.image_parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3)
    loss_function = SupConLoss(temperature=0.1)
    sampler = PKSampler(labels, 16, 4, coverage="images")

    with tempfile.TemporaryDirectory() as folder:
        cache = store(folder, prefix, train)

        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            for rows in sampler:
                # each epoch reads another augmented copy
                tokens = cache.read(rows, epoch % COPIES)
                levels = prefix.encode_image_levels(tokens, ["projected"])
                loss = loss_function(levels.projected, labels[rows])

                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            print(f"epoch {epoch + 1}: loss {loss.item():.3f}")

    return before, evaluate(towers, records)


if __name__ == "__main__":
    print(*main(read_images(sys.argv[1:])), sep="\n")

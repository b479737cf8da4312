"""Losses for text queries on the generated set, whose captions describe: a table over seeds.

Run from the repository: ``python -m benchmarks.text_to_person [--noise 0.3] [--seeds 3]``. A small
convolutional tower for images and a bag of words for texts are trained from scratch, with each loss
between images and captions alone: a run takes seconds. Everything but the loss is equal: batches of
16 identities with 4 images (InfoNCE: 64 with 1, because siblings would be its negatives), steps,
rate, schedule, initial weights of a seed. With ``--noise`` that share of the training images has
the caption of another one.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clipreid_kit import (
    CMPMLoss,
    InfoNCELoss,
    PKSampler,
    SDMLoss,
    SigLIPLoss,
    SupConLoss,
    TripletAlignmentLoss,
    WarmupCosineLR,
    clean_probability,
    divide_pairs,
    evaluate_retrieval,
)
from clipreid_kit.data import ReidDataset, SyntheticReid, eval_transform, records_of

SIZE = (32, 32)
RATE = 3e-3

DIM = 128

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


class Split(NamedTuple):
    """Images of a split with the words of their captions."""

    images: Tensor
    words: Tensor
    labels: Tensor


def image_tower() -> nn.Sequential:
    """Four convolutions and a linear map."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128), (128, DIM)):
        layers += [
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(DIM))


class Towers(nn.Module):
    """Four convolutions for images, and the mean of word embeddings for texts."""

    def __init__(self, num_words: int) -> None:
        super().__init__()
        self.image = image_tower()
        self.words = nn.EmbeddingBag(num_words, DIM, mode="mean", padding_idx=0)
        self.text = nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU(), nn.Linear(DIM, DIM))

    def encode_image(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.image(images)
        return embeddings

    def encode_text(self, words: Tensor) -> Tensor:
        embeddings: Tensor = self.text(self.words(words))
        return embeddings


class Method(NamedTuple):
    """A loss between images and captions, and the images of an identity in a batch.

    Attributes:
        loss: Called with images, texts and labels.
        num_instances: Images of an identity.
        values: The same with a value for each pair; the weights of pairs come from a mixture over
            these. ``None`` for no weights.
        consensus: Whether the weights are those of RDE's division, by the values in both halves of
            the embedding, and not the probabilities by the whole.
    """

    loss: Loss
    num_instances: int = 4
    values: Loss | None = None
    consensus: bool = False


def supcon(images: Tensor, texts: Tensor, labels: Tensor) -> Tensor:
    """SupCon in both directions."""
    loss = SupConLoss(0.1)
    return (loss(images, labels, texts, labels) + loss(texts, labels, images, labels)) / 2


def info_nce_without_labels(images: Tensor, texts: Tensor, labels: Tensor) -> Tensor:
    """InfoNCE in batches of distinct identities."""
    del labels
    return InfoNCELoss(0.07)(images, texts)


def methods() -> dict[str, Method]:
    """Losses by name; learned temperatures stay at their initial values."""
    siglip = SigLIPLoss(learnable=False)
    tal_values = TripletAlignmentLoss(0.1, 0.1, reduction="none")
    return {
        "InfoNCE": Method(info_nce_without_labels, 1),
        "SupCon": Method(supcon),
        "SigLIP": Method(siglip),
        "SDM 0.02 (the paper)": Method(SDMLoss()),
        "SDM 0.1": Method(SDMLoss(0.1)),
        "TAL 0.015 (the paper)": Method(TripletAlignmentLoss()),
        "TAL 0.1": Method(TripletAlignmentLoss(0.1, 0.1)),
        "CMPM": Method(CMPMLoss()),
        "TAL 0.1, weighted": Method(TripletAlignmentLoss(0.1, 0.1), values=tal_values),
        "TAL 0.1, divided (RDE)": Method(
            TripletAlignmentLoss(0.1, 0.1), values=tal_values, consensus=True
        ),
    }


def splits(num_identities: int, folder: str) -> tuple[Split, Split, int]:
    """Training and test images, and the number of words."""
    records = SyntheticReid(num_identities, views_per_camera=2, image_size=SIZE).write(folder)
    vocabulary: dict[str, int] = {}
    found = []

    for names in (("train",), ("query", "gallery")):
        chosen = [record for name in names for record in records_of(records, name)]
        dataset = ReidDataset(chosen, eval_transform(SIZE))
        images = torch.stack([dataset[row].image for row in range(len(dataset))])

        rows = []
        for caption in dataset.captions:
            words = (caption or "").lower().replace(",", " ").replace(".", " ").split()
            rows.append(
                torch.tensor([vocabulary.setdefault(w, len(vocabulary) + 1) for w in words])
            )
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        found.append(Split(images, padded, torch.as_tensor(dataset.labels)))

    return found[0], found[1], len(vocabulary) + 1


def with_noise(train: Split, share: float) -> Split:
    """Give a share of the images the caption of another one."""
    if share == 0:
        return train

    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(train.labels), generator=generator)
    rows = rows[: int(share * len(rows))]
    words = train.words.clone()
    words[rows] = train.words[rows.roll(1)]
    return train._replace(words=words)


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move a batch by up to three pixels."""
    down, right = torch.randint(-3, 4, (2,), generator=generator).tolist()
    return images.roll((down, right), dims=(2, 3))


def train_towers(method: Method, train: Split, num_words: int, seed: int, epochs: int) -> Towers:
    """Train both towers from scratch."""
    torch.manual_seed(seed)
    towers = Towers(num_words)
    towers.encode_image(train.images[:2])  # the first call builds the last layer
    labels = train.labels.tolist()
    instances = method.num_instances
    sampler = PKSampler(labels, 64 // instances, instances, seed=seed, coverage="images")
    generator = torch.Generator().manual_seed(seed)

    steps = epochs * (len(labels) // 64)
    optimizer = torch.optim.AdamW(towers.parameters(), lr=RATE, weight_decay=0.01)
    schedule = WarmupCosineLR(optimizer, steps // 10, steps)
    weights = torch.ones(len(labels))

    for step, rows in enumerate(endless(sampler)):
        if step == steps:
            return towers
        if method.values is not None and step >= steps // 4 and step % (steps // 8) == 0:
            weights = pair_weights(towers, method, train, generator)

        towers.train()
        images = towers.encode_image(shifted(train.images[rows], generator))
        texts = towers.encode_text(train.words[rows])
        loss = weighted(method, images, texts, train.labels[rows], weights[rows])

        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
        optimizer.step()
        schedule.step()

    raise AssertionError("the sampler is endless")


def endless(sampler: PKSampler) -> Iterator[list[int]]:
    """Batches of epoch after epoch."""
    epoch = 0
    while True:
        sampler.set_epoch(epoch)
        yield from sampler
        epoch += 1


def weighted(
    method: Method, images: Tensor, texts: Tensor, labels: Tensor, weights: Tensor
) -> Tensor:
    """Loss of a batch, with weights for its pairs where the method has some."""
    if method.values is None:
        return method.loss(images, texts, labels)
    return (weights * method.values(images, texts, labels)).sum() / weights.sum().clamp(min=1)


@torch.no_grad()
def pair_weights(
    towers: Towers, method: Method, train: Split, generator: torch.Generator
) -> Tensor:
    """Weight of each pair, by its loss in batches of random order."""
    assert method.values is not None
    towers.eval()
    order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(0))
    halves = (slice(DIM // 2), slice(DIM // 2, None)) if method.consensus else (slice(None),)
    losses = torch.zeros(len(halves), len(order))

    for rows in torch.split(order, 64):
        images = towers.encode_image(train.images[rows])
        texts = towers.encode_text(train.words[rows])
        for row, part in enumerate(halves):
            losses[row, rows] = method.values(images[:, part], texts[:, part], train.labels[rows])

    clean = [clean_probability(of_part) for of_part in losses]
    if not method.consensus:
        return clean[0]
    return divide_pairs(clean[0] > 0.5, clean[1] > 0.5).drawn_weights(generator)


@torch.no_grad()
def score(towers: Towers, test: Split) -> dict[str, float]:
    """Rank all test images for each caption; both are of identities that were not trained on."""
    towers.eval()
    images = torch.cat([towers.encode_image(part) for part in test.images.split(256)])
    texts = towers.encode_text(test.words)
    result = evaluate_retrieval(texts, images, query_ids=test.labels, gallery_ids=test.labels)
    return {"R1": result.hit_rate(1), "R5": result.hit_rate(5), "mAP": result.mean_ap}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--identities", type=int, default=240)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--only", nargs="*", help="names of methods, or parts of them")
    options = parser.parse_args()
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as folder:
        train, test, num_words = splits(options.identities, folder)
    train = with_noise(train, options.noise)

    chosen = {
        name: method
        for name, method in methods().items()
        if not options.only or any(part in name for part in options.only)
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    for seed in range(options.seeds):
        for name, method in chosen.items():
            towers = train_towers(method, train, num_words, seed, options.epochs)
            scores = score(towers, test)
            found[name].append(scores)
            print(json.dumps({"seed": seed, "loss": name, **scores}), flush=True)

    print("| loss | R1 | R5 | mAP |\n| --- | --- | --- | --- |")
    for name, rows in found.items():
        cells = []
        for key in ("R1", "R5", "mAP"):
            numbers = [100 * row[key] for row in rows]
            spread = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
            cells.append(f"{statistics.mean(numbers):.1f} ± {spread:.1f}")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

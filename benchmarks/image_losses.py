"""Losses among images on the generated set and on Omniglot: a table over seeds.

Run from the repository: ``python -m benchmarks.image_losses [--omniglot ZIP] [--seeds 3]``. A small
convolutional tower is trained from scratch, with a head or a loss on embeddings or both: a run
takes seconds. Everything else is equal: batches of 16 identities with 4 images, steps, rate,
schedule, and the initial weights of a seed.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.text_to_person import DIM, RATE, SIZE, endless, image_tower, shifted
from clipreid_kit import (
    ArcFaceHead,
    CircleSoftmaxHead,
    EmaTeacher,
    MatryoshkaLoss,
    PartialFCLoss,
    PKSampler,
    RecallSurrogateLoss,
    RelationalDistillationLoss,
    SmoothAPLoss,
    SupConLoss,
    TripletLoss,
    WarmupCosineLR,
    evaluate_reid,
)
from clipreid_kit.clip import IdentityBranch
from clipreid_kit.data import (
    ImageRecord,
    ReidDataset,
    SyntheticReid,
    eval_transform,
    evaluation_ids,
    read_omniglot,
    records_of,
)

WIDTHS = (8, 16, 32, 64, 128)
NUM_IDENTITIES, NUM_INSTANCES = 16, 4
BATCH = NUM_IDENTITIES * NUM_INSTANCES


class Images(NamedTuple):
    """Images to train on, queries and gallery, and what the evaluation needs to know of these."""

    train: Tensor
    labels: Tensor
    query: Tensor
    gallery: Tensor
    columns: dict[str, Any]


class Sum(nn.Module):
    """A loss on embeddings and labels that is the sum of others, identity branches among them."""

    def __init__(self, *losses: nn.Module) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        total = embeddings.new_zeros(())
        for loss in self.losses:
            value = loss(embeddings, labels)
            total = total + (value if isinstance(value, Tensor) else value.loss)
        return total


class Method(NamedTuple):
    """How a tower is trained.

    Attributes:
        loss: Builds a loss on embeddings and labels, for so many identities.
        follows_average: Whether the tower also reproduces the similarities of its own average.
    """

    loss: Callable[[int], nn.Module]
    follows_average: bool = False


def with_identities(
    num_identities: int, *, metric: nn.Module | None = None, **options: object
) -> Sum:
    """An identity branch and a loss among images, triplets by default."""
    branch = IdentityBranch(DIM, num_identities, **options)  # type: ignore[arg-type]
    return Sum(branch, metric or TripletLoss(0.3))


def unsmoothed(**options: object) -> Callable[[int], Sum]:
    """The same without label smoothing, with options of the identity branch."""
    return partial(with_identities, label_smoothing=0.0, **options)  # type: ignore[arg-type]


def partial_fc(num_identities: int) -> Sum:
    """ArcFace with half of the identities in each step, and triplets."""
    sampled = max(BATCH, num_identities // 2)
    neck = nn.BatchNorm1d(DIM)
    loss = PartialFCLoss(DIM, num_identities, num_sampled=sampled)
    return Sum(BehindNeck(neck, loss), TripletLoss(0.3))


class BehindNeck(nn.Module):
    """A loss on embeddings that pass a BatchNorm first, as in an identity branch."""

    def __init__(self, neck: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.neck = neck
        self.loss = loss

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = self.loss(self.neck(embeddings), labels)
        return loss


def methods() -> dict[str, Method]:
    """Methods by name; numbers are those of the papers or the defaults."""
    recall = RecallSurrogateLoss()
    smooth_ap = SmoothAPLoss()
    circle_64 = partial(CircleSoftmaxHead, scale=64.0)

    losses: dict[str, Callable[[int], nn.Module]] = {
        "ID + triplet": with_identities,
        "SupCon": lambda _: SupConLoss(0.1),
        "Recall@k surrogate": lambda _: recall,
        "Smooth-AP": lambda _: smooth_ap,
        "ID + Recall@k surrogate": partial(with_identities, metric=recall),
        "ID + Smooth-AP": partial(with_identities, metric=smooth_ap),
        "ID without smoothing + triplet": unsmoothed(),
        "ID, adaptive smoothing + triplet": unsmoothed(adaptive_smoothing=0.1),
        "ID, focal weight 2 + triplet": unsmoothed(focal_gamma=2.0),
        "circle-softmax + triplet": unsmoothed(classifier=CircleSoftmaxHead),
        "circle-softmax 64 + triplet": unsmoothed(classifier=circle_64),
        "ArcFace + triplet": unsmoothed(classifier=ArcFaceHead),
        "PartialFC, half + triplet": partial_fc,
        "Matryoshka of SupCon": lambda _: MatryoshkaLoss(SupConLoss(0.1), WIDTHS),
    }

    found = {name: Method(loss) for name, loss in losses.items()}
    found["ID + triplet + own average"] = Method(with_identities, follows_average=True)
    return found


def images_of(records: Sequence[ImageRecord], *, cameras: Literal[False] | None) -> Images:
    """Decode the images of a set."""
    train, query, gallery = (records_of(records, split) for split in ("train", "query", "gallery"))
    dataset = ReidDataset(train, eval_transform(SIZE))
    return Images(
        train=decoded(dataset),
        labels=torch.as_tensor(dataset.labels),
        query=decoded(ReidDataset(query, eval_transform(SIZE))),
        gallery=decoded(ReidDataset(gallery, eval_transform(SIZE))),
        columns=evaluation_ids(query, gallery, cameras=cameras),
    )


def decoded(dataset: ReidDataset) -> Tensor:
    """All images of a data set."""
    return torch.stack([dataset[row].image for row in range(len(dataset))])


def train_tower(method: Method, images: Images, seed: int, epochs: int) -> nn.Module:
    """Train a tower from scratch."""
    torch.manual_seed(seed)
    tower = image_tower()
    tower(images.train[:2])  # the first call builds the last layer

    labels = images.labels.tolist()
    objective = method.loss(len(set(labels)))
    teacher = EmaTeacher(tower, 0.99) if method.follows_average else None
    relational = RelationalDistillationLoss()

    steps = epochs * (len(labels) // BATCH)
    parameters = [*tower.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    schedule = WarmupCosineLR(optimizer, steps // 10, steps)

    sampler = PKSampler(labels, NUM_IDENTITIES, NUM_INSTANCES, seed=seed, coverage="images")
    generator = torch.Generator().manual_seed(seed)
    for rows in itertools.islice(endless(sampler), steps):
        batch = shifted(images.train[rows], generator)
        embeddings = tower(batch)
        loss = objective(embeddings, images.labels[rows])
        if teacher is not None:
            loss = loss + relational(embeddings, teacher(batch))

        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if teacher is not None:
            teacher.update(tower)
    return tower


@torch.no_grad()
def score(tower: nn.Module, images: Images) -> dict[str, float]:
    """Search images of unseen identities, with the first entries of the embeddings alone, too."""
    tower.eval()
    query = embedded(tower, images.query)
    gallery = embedded(tower, images.gallery)

    whole = evaluate_reid(query, gallery, **images.columns)
    scores = {"R1": whole.rank(1), "mAP": whole.mean_ap}
    for width in WIDTHS:
        result = evaluate_reid(query[:, :width], gallery[:, :width], **images.columns)
        scores[f"mAP of {width}"] = result.mean_ap
    return scores


def embedded(tower: nn.Module, images: Tensor) -> Tensor:
    """Embed images in parts."""
    return torch.cat([tower(part) for part in torch.split(images, 256)])


def mean_and_spread(numbers: Sequence[float]) -> str:
    """Mean and standard deviation, in percent."""
    spread = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    return f"{100 * statistics.mean(numbers):.1f} ± {100 * spread:.1f}"


def show(found: dict[str, list[dict[str, float]]], reference: str) -> None:
    """Print a table, with differences of mAP from a reference of the same seed."""
    names = list(next(iter(found.values()))[0])
    print("| method | " + " | ".join(names) + " | mAP, difference |")
    print("| --- " * (len(names) + 2) + "|")
    base = [row["mAP"] for row in found[reference]] if reference in found else None

    for method, rows in found.items():
        cells = [mean_and_spread([row[name] for row in rows]) for name in names]
        if base is not None:
            pairs = zip(rows, base, strict=True)
            cells.append(mean_and_spread([row["mAP"] - other for row, other in pairs]))
        print(f"| {method} | {' | '.join(cells)} |")


def read_images(omniglot: str | None, num_identities: int) -> Images:
    """Images of Omniglot, or generated ones."""
    if omniglot:
        return images_of(read_omniglot(omniglot), cameras=False)

    with tempfile.TemporaryDirectory() as folder:
        made = SyntheticReid(num_identities, views_per_camera=2, image_size=SIZE)
        return images_of(made.write(folder), cameras=None)


def chosen_methods(parts: Sequence[str] | None) -> dict[str, Method]:
    """Methods whose names have one of these parts; all of them without parts."""
    if not parts:
        return methods()
    return {
        name: method for name, method in methods().items() if any(part in name for part in parts)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--omniglot", help="omniglot-reid.zip, in place of the generated set")
    parser.add_argument("--identities", type=int, default=300, help="of the generated set")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of methods, or parts of them")
    parser.add_argument("--reference", default="ID + triplet", help="of the last column")
    options = parser.parse_args()

    torch.set_num_threads(1)
    images = read_images(options.omniglot, options.identities)
    chosen = chosen_methods(options.only)

    found: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    for seed in range(options.seeds):
        for name, method in chosen.items():
            began = time.process_time()
            tower = train_tower(method, images, seed, options.epochs)
            scores = score(tower, images)
            seconds = round(time.process_time() - began, 1)

            found[name].append(scores)
            line = {"seed": seed, "method": name, "seconds": seconds, **scores}
            print(json.dumps(line), flush=True)
    show(found, options.reference)


if __name__ == "__main__":
    main()

"""Loading images compared with torchvision's ImageFolder, shortening of prompts, and mining."""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.measure import OURS, interleaved, machine, show
from clipreid_kit.data import (
    CLIP_MEAN,
    CLIP_STD,
    ImageRecord,
    ReidDataset,
    eval_transform,
    load_image,
    mine_hard_negatives,
    mine_triplets,
    token_safe_prompt,
    train_transform,
)

INPUT_SIZE = (256, 128)
NUM_IMAGES = 160
SMALL = (64, 128)
SOURCES = {
    "64 x 128 JPEG (Market-1501)": SMALL,
    "128 x 256 JPEG": (128, 256),
    "480 x 640 JPEG": (480, 640),
}


def write_images(
    folder: Path, number: int, size: tuple[int, int], num_identities: int = 8
) -> list[ImageRecord]:
    """Write JPEG files with smooth content, in the layout of ImageFolder."""
    random = np.random.default_rng(0)
    width, height = size

    records = []
    for row in range(number):
        identity = f"{row % num_identities}"
        path = folder / identity / f"{row}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)

        coarse_shape = (max(2, height // 8), max(2, width // 8), 3)
        coarse = Image.fromarray(random.integers(0, 256, coarse_shape, dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
        records.append(ImageRecord(str(path), identity, camera=1))
    return records


def torchvision_transform(*, train: bool) -> Callable[[Image.Image], torch.Tensor]:
    """Build the same steps from torchvision's parts."""
    bicubic = v2.InterpolationMode.BICUBIC
    steps: list[Callable[..., object]] = [v2.Resize(list(INPUT_SIZE), interpolation=bicubic)]
    if train:
        steps += [v2.RandomHorizontalFlip(), v2.Pad(10), v2.RandomCrop(list(INPUT_SIZE))]

    steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    steps.append(v2.Normalize(CLIP_MEAN, CLIP_STD))
    if train:
        steps.append(v2.RandomErasing(0.5, value="random"))

    transform: Callable[[Image.Image], torch.Tensor] = v2.Compose(steps)
    return transform


def epoch_of(dataset: "Dataset[object]", num_workers: int) -> Callable[[], None]:
    """Return a function that reads all batches of a data set."""

    def read_all() -> None:
        for _ in DataLoader(dataset, batch_size=32, num_workers=num_workers):
            pass

    return read_all


def open_rgb(path: str) -> Image.Image:
    """Open an image as Pillow does it."""
    with Image.open(path) as image:
        return image.convert("RGB")


def measure_decoding(turns: int = 60) -> None:
    """Show the processor time to decode a small JPEG.

    It is the least of many alternating turns of each image: what other load disturbs least.
    """
    contenders = {OURS: load_image, "Pillow, open and convert": open_rgb}
    seconds = dict.fromkeys(contenders, 0.0)

    with tempfile.TemporaryDirectory() as folder:
        records = write_images(Path(folder), 24, SMALL)
        for record in records:
            least = dict.fromkeys(contenders, math.inf)
            for _ in range(turns):
                for name, decode in contenders.items():
                    began = time.thread_time()
                    decode(record.path)
                    least[name] = min(least[name], time.thread_time() - began)

            for name, value in least.items():
                seconds[name] += value / len(records)

    show("decoding a 64 x 128 JPEG, least processor time", seconds)


def measure_loading(repeats: int) -> None:
    """Show the processor time of an epoch of 160 images; the data sets take turns."""
    transforms = {
        "train": train_transform(INPUT_SIZE, pad=10, erasing=0.5),
        "eval": eval_transform(INPUT_SIZE),
    }
    for source, size in SOURCES.items():
        with tempfile.TemporaryDirectory() as folder:
            records = write_images(Path(folder), NUM_IMAGES, size)

            for mode, ours in transforms.items():
                peer = torchvision_transform(train=mode == "train")
                datasets: dict[str, Dataset[object]] = {
                    OURS: ReidDataset(records, ours),
                    "ImageFolder, transform of clipreid_kit": ImageFolder(folder, ours),
                    "ImageFolder, transform of torchvision": ImageFolder(folder, peer),
                }
                if size == SMALL:
                    datasets["clipreid_kit, cache"] = ReidDataset(records, ours, cache=True)

                contenders = {name: epoch_of(dataset, 0) for name, dataset in datasets.items()}
                title = f"{source}, {mode}, {NUM_IMAGES} images to 256 x 128, processor time"
                show(title, interleaved(contenders, repeats, time.process_time))


def random_features(num_rows: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw features around shared directions, so that neighbours mean something, and labels."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(num_rows) // 10
    family_of = torch.arange(num_rows) // 200

    families = torch.randn(num_rows // 200 + 1, dim, generator=random)[family_of]
    identities = torch.randn(num_rows // 10 + 1, dim, generator=random)[labels]
    noise = torch.randn(num_rows, dim, generator=random)
    return families + identities + noise, labels


def measure_mining(num_rows: int, dim: int) -> None:
    """Show seconds for hard negatives and triplets, and how many of them faiss finds."""
    features, labels = random_features(num_rows, dim)
    searches = {
        "hard negatives, exact": lambda: mine_hard_negatives(features, labels, 3, search="exact"),
        "hard negatives, faiss": lambda: mine_hard_negatives(features, labels, 3, search="faiss"),
        "hard negatives, random": lambda: mine_hard_negatives(None, labels, 3, strategy="random"),
        "triplets, hardest, exact": lambda: mine_triplets(features, labels, search="exact"),
        "triplets, semi-hard, exact": lambda: mine_triplets(
            features, labels, strategy="semi_hard", search="exact"
        ),
    }

    print(f"\nmining in {num_rows} x {dim}, {torch.get_num_threads()} threads")
    found = {}
    for name, search in searches.items():
        start = time.perf_counter()
        found[name] = search()
        print(f"  {name:34}{time.perf_counter() - start:9.2f} s", flush=True)

    exact = found["hard negatives, exact"]
    approximate = found["hard negatives, faiss"]
    recall = (exact[:, :, None] == approximate[:, None, :]).any(dim=2).float().mean()
    print(f"  faiss finds {recall:.1%} of the exact hard negatives")


def measure_prompts() -> None:
    """Show microseconds to shorten a description to 77 tokens."""
    description = (
        "A crisp woven dress with a scoop neckline, a smocked waist and covered buttons. "
        "Hand wash cold. "
    )
    text = description * 3

    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        for number in range(100):
            token_safe_prompt(f"{text} {number}")
        seconds.append((time.perf_counter() - start) / 100)

    microseconds = 1e6 * statistics.median(seconds)
    print(f"\ntoken_safe_prompt, {len(text)} characters: {microseconds:.0f} us")


def main() -> None:
    """Measure decoding, loading, prompts and mining in --rows x 512 (100,000: four minutes)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=9)
    choices = ["decoding", "loading", "prompts", "mining"]
    parser.add_argument("--only", nargs="+", choices=choices)
    options = parser.parse_args()
    print(machine("torchvision", "pillow", "faiss-cpu"))

    chosen = options.only or choices
    if "decoding" in chosen:
        measure_decoding()
    if "loading" in chosen:
        measure_loading(options.repeats)
    if "prompts" in chosen:
        measure_prompts()
    if "mining" in chosen:
        measure_mining(options.rows, 512)


if __name__ == "__main__":
    main()

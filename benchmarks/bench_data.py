"""Loading images against torchvision's ImageFolder, token counts of prompts, and mining."""

import argparse
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
    mine_hard_negatives,
    mine_triplets,
    token_safe_prompt,
    train_transform,
)

_SIZE = (256, 128)


def write_images(folder: Path, number: int, size: tuple[int, int]) -> list[ImageRecord]:
    """JPEG files with smooth content, in the layout of ImageFolder."""
    random = np.random.default_rng(0)
    records = []
    for row in range(number):
        identity = f"{row % 8}"
        path = folder / identity / f"{row}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = random.integers(
            0, 256, (max(2, size[1] // 8), max(2, size[0] // 8), 3), dtype=np.uint8
        )
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
        records.append(ImageRecord(str(path), identity, camera=1))
    return records


def plain(*, train: bool) -> Callable[[Image.Image], torch.Tensor]:
    """The same steps as torchvision writes them."""
    augment = [v2.RandomHorizontalFlip(), v2.Pad(10), v2.RandomCrop(list(_SIZE))] if train else []
    erase = [v2.RandomErasing(0.5, value="random")] if train else []
    return v2.Compose(
        [
            v2.Resize(list(_SIZE), interpolation=v2.InterpolationMode.BICUBIC),
            *augment,
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(CLIP_MEAN, CLIP_STD),
            *erase,
        ]
    )


def epoch(dataset: "Dataset[object]", workers: int) -> Callable[[], None]:
    """Read all batches."""

    def work() -> None:
        for _ in DataLoader(dataset, batch_size=32, num_workers=workers):
            pass

    return work


def loading(repeats: int) -> None:
    """Datasets take turns over the same files; what is shown is milliseconds for an epoch of 160 images."""
    ours = {"train": train_transform(_SIZE, pad=10, erasing=0.5), "eval": eval_transform(_SIZE)}
    for label, size in (("64 x 128 JPEG (Market-1501)", (64, 128)), ("480 x 640 JPEG", (480, 640))):
        with tempfile.TemporaryDirectory() as folder:
            records = write_images(Path(folder), 160, size)
            for mode, transform in ours.items():
                contenders = {
                    OURS: epoch(ReidDataset(records, transform), 0),
                    "ImageFolder, transform of clipreid_kit": epoch(
                        ImageFolder(folder, transform), 0
                    ),
                    "ImageFolder, transform of torchvision": epoch(
                        ImageFolder(folder, plain(train=mode == "train")), 0
                    ),
                }
                if size == (64, 128):
                    contenders["clipreid_kit, cache"] = epoch(
                        ReidDataset(records, transform, cache=True), 0
                    )
                show(f"{label}, {mode}, 160 images to 256 x 128", interleaved(contenders, repeats))


def mining(rows: int, dim: int) -> None:
    """Hard negatives and triplets of random features around shared directions, so that neighbours mean something."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) // 10
    families = torch.randn(rows // 200 + 1, dim, generator=random)[torch.arange(rows) // 200]
    identities = torch.randn(rows // 10 + 1, dim, generator=random)[labels]
    features = families + identities + torch.randn(rows, dim, generator=random)
    print(f"\nmining in {rows} x {dim}, {torch.get_num_threads()} threads")
    found = {}
    for name, work in {
        "hard negatives, exact": lambda: mine_hard_negatives(features, labels, 3, search="exact"),
        "hard negatives, faiss": lambda: mine_hard_negatives(features, labels, 3, search="faiss"),
        "hard negatives, random": lambda: mine_hard_negatives(None, labels, 3, strategy="random"),
        "triplets, hardest, exact": lambda: mine_triplets(features, labels, search="exact"),
        "triplets, semi-hard, exact": lambda: mine_triplets(
            features, labels, strategy="semi_hard", search="exact"
        ),
    }.items():
        began = time.perf_counter()
        found[name] = work()
        print(f"  {name:34}{time.perf_counter() - began:9.2f} s", flush=True)
    exact, fast = found["hard negatives, exact"], found["hard negatives, faiss"]
    shared = (exact[:, :, None] == fast[:, None, :]).any(dim=2).float().mean()
    print(f"  faiss finds {shared:.1%} of the exact hard negatives")


def prompts() -> None:
    """Microseconds to make a description fit."""
    text = (
        "A crisp woven dress with a scoop neckline, a smocked waist and covered buttons. Hand wash cold. "
        * 3
    )
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        for number in range(100):
            token_safe_prompt(f"{text} {number}")
        seconds.append((time.perf_counter() - began) / 100)
    print(f"\ntoken_safe_prompt, {len(text)} characters: {1e6 * statistics.median(seconds):.0f} us")


def main() -> None:
    """Loading and prompts; mining in --rows x 512 as well (100,000 take about four minutes in all)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--only", nargs="+", choices=["loading", "prompts", "mining"])
    options = parser.parse_args()
    print(machine("torchvision", "pillow", "faiss-cpu"))
    wanted = options.only or ["loading", "prompts", "mining"]
    if "loading" in wanted:
        loading(options.repeats)
    if "prompts" in wanted:
        prompts()
    if "mining" in wanted:
        mining(options.rows, 512)


if __name__ == "__main__":
    main()

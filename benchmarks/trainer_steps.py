"""Images a second of the trainer, of a plain loop of its parts, and of one of the peers' parts.

An epoch of 64 x 128 JPEG files, as of Market-1501, at 128 x 64 through a small ResNet with SupCon,
on one thread and without processes that load. All three have the same tower, precision, memory
format, optimiser and augmentation, and read the loss in each step. The peers' parts are the loss
and the sampler of pytorch-metric-learning and the transforms of torchvision.
"""

import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from pytorch_metric_learning.losses import SupConLoss as PeerSupConLoss
from pytorch_metric_learning.samplers import MPerClassSampler
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.bench_data import SMALL, open_rgb, write_images
from benchmarks.measure import OURS, Work, interleaved, show
from clipreid_kit import PKSampler, SupConLoss
from clipreid_kit.clip import ClipTowers
from clipreid_kit.data import CLIP_MEAN, CLIP_STD, ImageRecord, ReidDataset, train_transform
from examples.settings.recipe import recipe_of
from examples.settings.stages import JointRecipe
from examples.trainer.assemble import pk_batches, training_images
from examples.trainer.log import Log
from examples.trainer.loop import Training, prepare, train_epoch
from examples.trainer.optimizers import optimizers_of
from examples.trainer.session import Session, encoding_of, make_towers
from examples.trainer.stages import joint

NAME = "reid-tiny-resnet"
SIZE = (128, 64)
NUM_IDENTITIES = 32
NUM_IMAGES = 8 * NUM_IDENTITIES
IDENTITIES, INSTANCES = 16, 4
BATCH = IDENTITIES * INSTANCES
TEMPERATURE = 0.07
RATE = 1e-3

RECIPE = {
    "stage": "joint",
    "note": "The images alone.",
    "device": "cpu",
    "data": {"workers": 0},
    "model": {"name": NAME, "image_size": list(SIZE), "channels_last": True},
    "augment": {"pad": 10, "erasing": 0.5, "fill": 0},
    "batch": {
        "num_identities": IDENTITIES,
        "num_instances": INSTANCES,
        "coverage": "images",
    },
    "loss": {"supcon_image": 1.0, "supcon_text": 0.0, "temperature": TEMPERATURE},
    "optim": {"epochs": 1000, "lr": RATE},
}


def trainer_epoch(records: list[ImageRecord], folder: Path) -> Work:
    """An epoch of the trainer, as a run makes it."""
    recipe = recipe_of(RECIPE)
    if not isinstance(recipe, JointRecipe):
        raise TypeError("the recipe is of another stage")

    accelerator = Accelerator(cpu=True, mixed_precision="no")
    towers = make_towers(recipe.model, [], recipe.seed)
    encoding = encoding_of(recipe, towers, [], quiet=True)
    session = Session(folder, accelerator, records, towers, encoding, resume=False)

    dataset = training_images(recipe, session)
    method = joint.build(recipe, session, dataset.num_identities)
    training = Training(
        method=method,
        batches=pk_batches(recipe, session, dataset),
        optimizers=optimizers_of(method, recipe.optim),
        optim=recipe.optim,
        accelerator=accelerator,
        log=Log(folder, accelerator, console=False),
        channels_last=recipe.model.channels_last,
    )
    prepare(training)
    epochs = iter(range(1, recipe.optim.epochs))
    return lambda: train_epoch(training, next(epochs))


def our_epoch(records: list[ImageRecord]) -> Work:
    """An epoch of a plain loop with our parts."""
    augment = train_transform(SIZE, pad=10, erasing=0.5)
    dataset = ReidDataset(records, augment)
    sampler = PKSampler(dataset.labels, IDENTITIES, INSTANCES, coverage="images")
    loader = DataLoader(dataset, batch_sampler=sampler)
    return plain_epoch(_Pairs(loader), SupConLoss(TEMPERATURE))


def peer_epoch(folder: Path) -> Work:
    """An epoch of a plain loop with the peers' parts."""
    bicubic = v2.InterpolationMode.BICUBIC
    augment = v2.Compose(
        [
            v2.Resize(list(SIZE), interpolation=bicubic),
            v2.RandomHorizontalFlip(),
            v2.Pad(10),
            v2.RandomCrop(list(SIZE)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(CLIP_MEAN, CLIP_STD),
            v2.RandomErasing(0.5, value="random"),
        ]
    )
    dataset = ImageFolder(str(folder), augment, loader=open_rgb)
    sampler = MPerClassSampler(dataset.targets, INSTANCES, BATCH, NUM_IMAGES)
    loader = DataLoader(dataset, batch_size=BATCH, sampler=sampler)
    return plain_epoch(loader, PeerSupConLoss(TEMPERATURE))


class _Pairs:
    """Images and labels of the batches of a loader."""

    def __init__(self, loader: "DataLoader[Any]") -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for item in self.loader:
            yield item.image, item.label


def plain_epoch(batches: Iterable[tuple[Tensor, Tensor]], loss: nn.Module) -> Work:
    """An epoch of a plain loop: forward, backward, step, and the loss read for the log."""
    towers = ClipTowers.from_open_clip(NAME, image_size=SIZE)
    towers.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(towers.image_parameters(), lr=RATE, fused=True)

    def epoch() -> None:
        towers.train()
        for images, labels in batches:
            optimizer.zero_grad()
            laid_out = images.to(memory_format=torch.channels_last)
            value = loss(towers.encode_image(laid_out), labels)
            value.backward()
            optimizer.step()
            value.item()

    return epoch


def measure(repeats: int) -> None:
    """Show an epoch of each in processor time, and images a second of it."""
    with tempfile.TemporaryDirectory() as place:
        images, out = Path(place, "images"), Path(place, "out")
        out.mkdir()
        records = write_images(images, NUM_IMAGES, SMALL, NUM_IDENTITIES)
        trained = [replace(record, split="train") for record in records]

        contenders: dict[str, Work] = {
            OURS: our_epoch(records),
            "the trainer": trainer_epoch(trained, out),
            "pytorch-metric-learning, torchvision": peer_epoch(images),
        }
        seconds = interleaved(contenders, repeats, time.process_time)

    show(f"epoch of {NUM_IMAGES} images, {NAME}, batch {BATCH}, processor time", seconds)
    for name, value in seconds.items():
        print(f"  {name:42}{NUM_IMAGES / value:10.1f} images/s")

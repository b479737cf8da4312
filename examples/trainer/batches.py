"""Training images as batches: pictures, labels, and what else a method takes, by name."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler
from torchvision.transforms import v2

from clipreid_kit import PKSampler
from clipreid_kit.clip import ClipTowers
from clipreid_kit.data import (
    CaptionSampler,
    ImageRecord,
    ImageSpec,
    MinedDataset,
    ReidDataset,
    anchored,
    collate_mined,
    eval_transform,
    mine_hard_negatives,
    mine_triplets,
    train_transform,
    warp_transform,
)
from examples.settings.config import Recipe
from examples.settings.rules import too_long, uses_text
from examples.trainer.data import synonyms_of

Batch = dict[str, Tensor]
Encode = Callable[[Sequence[ImageRecord], Sequence[str]], tuple[Tensor, Tensor]]


def image_spec(recipe: Recipe, towers: ClipTowers) -> ImageSpec:
    """How pictures are shown to the towers, in training and test alike."""
    return ImageSpec(
        image_size=towers.image_size,
        mean=towers.image_mean,
        std=towers.image_std,
        interpolation=recipe.model.interpolation,
        fit=recipe.model.fit,
        fill=recipe.augment.fill,
    )


def training_set(recipe: Recipe, records: Sequence[ImageRecord], towers: ClipTowers) -> ReidDataset:
    """Training images with augmentation."""
    options = asdict(recipe.augment)
    options["translate"] = (recipe.augment.translate, recipe.augment.translate)
    warp, orientations, fill = options.pop("identity_warp"), options.pop("identity_orientations"), options.pop("fill")
    make_identity = None
    if warp or orientations > 1:
        strength = {"rotation": 30 * warp, "shear": 40 * warp, "perspective": 0.8 * warp}
        make_identity = warp_transform(orientations=orientations, fill=fill, **strength)
    return ReidDataset(
        records,
        train_transform(image_spec(recipe, towers), **options),
        seed=recipe.seed,
        orientations=recipe.data.orientations,
        cache=recipe.data.cache,
        identity_transform=make_identity,
    )


def evaluation_batches(
    recipe: Recipe, records: Sequence[ImageRecord], towers: ClipTowers, angle: float
) -> "DataLoader[Any]":
    """Images in order, without augmentation; turned by an angle in degrees if one is given."""
    transform: Any = eval_transform(image_spec(recipe, towers))
    if angle:
        bilinear = v2.InterpolationMode.BILINEAR
        turn = v2.RandomRotation((angle, angle), interpolation=bilinear, fill=recipe.augment.fill)
        transform = v2.Compose([turn, transform])
    workers = recipe.data.workers if len(records) > 4 * recipe.evaluate.batch_size else 0
    return DataLoader(
        ReidDataset(records, transform),
        batch_size=recipe.evaluate.batch_size,
        num_workers=workers,
        generator=torch.Generator(),
    )


class Numbers:
    """Cameras or views of the training images, numbered from 0; others are -1."""

    def __init__(self, records: Sequence[ImageRecord], name: str) -> None:
        self.name = name
        self.known = {value: i for i, value in enumerate(sorted({getattr(r, name) for r in records}, key=str))}

    def of(self, records: Sequence[ImageRecord]) -> Tensor:
        """The number of each record."""
        return torch.tensor([self.known.get(getattr(record, self.name), -1) for record in records], dtype=torch.int64)


class TrainingBatches:
    """PK batches, or mined ones, of one rank; called with an epoch's number, it gives that epoch's."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: ReidDataset,
        towers: ClipTowers,
        numbers: Sequence[Numbers],
        *,
        rank: int = 0,
        world_size: int = 1,
        encode: Encode,
    ) -> None:
        self.recipe, self.dataset, self.encode = recipe, dataset, encode
        self.rank, self.world_size, self.tokenize = rank, world_size, towers.tokenize
        orientations = recipe.data.orientations
        self.numbers = {f"{n.name}s": n.of(dataset.records).repeat_interleave(orientations) for n in numbers}
        self.captions, self.tokens = None, None
        if uses_text(recipe):
            templates = {} if recipe.data.paraphrases else {"templates": ()}
            variations = recipe.data.caption_variations
            synonyms = synonyms_of(recipe.data)
            self.captions = CaptionSampler(
                dataset.captions, synonyms=synonyms, max_variations=variations, seed=recipe.seed, **templates
            )
            if variations == 1:
                self.tokens = self.tokenize([c or "" for c in dataset.captions], too_long=too_long(recipe))
        batch, workers = recipe.batch, recipe.data.workers
        # a generator of its own: a loader otherwise draws from the one of dropout, and not as often after a pause
        options: dict[str, Any] = {
            "num_workers": workers,
            "pin_memory": recipe.data.pin_memory and torch.cuda.is_available(),
            "generator": torch.Generator(),
        }
        self.mined: MinedDataset | None = None
        self.sampler: PKSampler | None = None
        if recipe.mining.data == "standard":
            self.sampler = PKSampler(
                dataset.labels,
                batch.num_identities,
                batch.num_instances,
                seed=recipe.seed,
                coverage=batch.coverage,
                cameras=dataset.cameras if batch.spread_cameras else None,
                rank=rank,
                world_size=world_size,
            )
            self.loader = DataLoader(dataset, batch_sampler=self.sampler, persistent_workers=workers > 0, **options)
        else:
            self.options = {**options, "collate_fn": collate_mined}
        self.length = len(self.loader) if self.sampler is not None else -(-len(dataset) // self._size() // world_size)

    def _size(self) -> int:
        return self.recipe.batch.num_identities * self.recipe.batch.num_instances

    def __len__(self) -> int:
        """Batches of an epoch; of mined triplets, which may be fewer, the most there can be."""
        return self.length

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Batches with ``images``, ``labels`` and ``index``, and ``tokens``, ``cameras``, ``views`` where used."""
        self.dataset.set_epoch(epoch)
        if self.sampler is not None:
            self.sampler.set_epoch(epoch)
            batches: Any = self.loader
        else:
            if self.mined is None or (epoch - 1) % self.recipe.mining.refresh_epochs == 0:
                found = [self._mine(epoch) if self.rank == 0 else None]  # once: all have to have the same
                self.mined = MinedDataset(self.dataset, broadcast_object_list(found)[0])
            share: dict[str, Any] = {"num_replicas": self.world_size, "rank": self.rank, "seed": self.recipe.seed}
            order: DistributedSampler[int] = DistributedSampler(self.mined, **share)
            order.set_epoch(epoch)
            batches = DataLoader(
                self.mined, batch_sampler=BatchSampler(order, self._size(), drop_last=False), **self.options
            )
        for item in batches:
            batch = {"images": item.image, "labels": item.label, "index": item.index}
            batch |= {name: numbers[item.index] for name, numbers in self.numbers.items()}
            if self.tokens is not None:
                batch["tokens"] = self.tokens[item.index]
            elif self.captions is not None:
                texts = [self.captions.text(i, epoch) for i in item.index.tolist()]
                batch["tokens"] = self.tokenize(texts, too_long=too_long(self.recipe))
            yield batch

    def names(self, rows: Sequence[int]) -> list[str]:
        """Paths of the images of rows."""
        return [str(self.dataset.records[row // self.recipe.data.orientations].path) for row in rows]

    def state_dict(self) -> dict[str, Tensor]:
        """What the next epoch needs to be the same after a pause."""
        return {} if self.mined is None else {"mined": self.mined.mined.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what :meth:`state_dict` gave."""
        if state:
            self.mined = MinedDataset(self.dataset, state["mined"])

    def _mine(self, epoch: int) -> Tensor:
        mining, labels, captions = self.recipe.mining, self.dataset.labels, self.dataset.captions
        seed = self.recipe.seed
        if mining.data == "hard_negative" and mining.negatives == "random":
            found = mine_hard_negatives(
                None, labels, mining.num_negatives, strategy="random", captions=captions, seed=seed, epoch=epoch
            )
            return anchored(found)
        images, texts = self.encode(self.dataset.records, [caption or "" for caption in captions])
        both = torch.nn.functional.normalize(images, dim=1) + torch.nn.functional.normalize(texts, dim=1)
        if mining.data == "hard_negative":
            return anchored(mine_hard_negatives(both, labels, mining.num_negatives, captions=captions))
        positives: dict[str, Any] = (
            {"labels": labels} if mining.positives == "identity" else {"caption_features": texts}
        )
        found = mine_triplets(both, strategy=mining.triplets, margin=mining.margin, captions=captions, **positives)
        if not len(found):
            raise ValueError(
                f"epoch {epoch}: expected {mining.triplets} triplets to train on, got none. All are satisfied, or no "
                "image has a positive: raise mining.margin, or set mining.positives or mining.data to another."
            )
        return found

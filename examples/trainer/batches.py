"""Training batches: images or cached features with labels, and what else a method takes."""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, Sampler
from typing_extensions import Self

from clipreid_kit import CrossModalityPKSampler, DomainPKSampler, PKSampler
from clipreid_kit.clip import ClipTowers
from clipreid_kit.data import (
    CaptionSampler,
    CategoryIndex,
    MinedDataset,
    ReidDataset,
    collate_mined,
)
from examples.settings.images import Images

State = dict[str, Tensor]


@dataclass(frozen=True)
class ImageBatch:
    """Images with their labels, and the rows of the data set that they come from.

    Attributes:
        images: Images (N, 3, H, W), or frames of tracklets (N, T, 3, H, W); ``rows`` are then
            those of all frames.
        step: Epochs before this one, for weights of losses that change with them.
        tokens: Captions (N, L), where a loss looks at them.
        cameras: Camera numbers, where the towers have an embedding for them.
        views: View numbers, likewise.
        pair_weights: Weights of images and their captions, where noisy pairs are divided.
        image_ids: Number of the image that each row is a view of, where a batch has several views.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    step: int
    tokens: Tensor | None = None
    cameras: Tensor | None = None
    views: Tensor | None = None
    pair_weights: Tensor | None = None
    image_ids: Tensor | None = None

    def to(self, device: torch.device, memory_format: torch.memory_format) -> Self:
        """The batch on a device; cameras and views stay on the CPU, where they are looked up."""
        return replace(
            self,
            images=_laid_out(self.images.to(device), memory_format),
            labels=self.labels.to(device),
            tokens=None if self.tokens is None else self.tokens.to(device),
        )

    def inputs(self) -> dict[str, Any]:
        """Arguments of a method's ``forward``, by name."""
        optional = {
            "tokens": self.tokens,
            "cameras": self.cameras,
            "views": self.views,
            "pair_weights": self.pair_weights,
            "image_ids": self.image_ids,
        }
        given = {name: value for name, value in optional.items() if value is not None}
        return {"images": self.images, "labels": self.labels, "step": self.step, **given}


def _laid_out(images: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Images in a memory format; frames of tracklets, which have another dimension, stay."""
    return images.to(memory_format=memory_format) if images.ndim == 4 else images


@dataclass(frozen=True)
class FeatureBatch:
    """Cached image embeddings with their labels, cameras and modalities, for learning prompts."""

    image_embeddings: Tensor
    labels: Tensor
    rows: Tensor
    cameras: Tensor | None = None
    modalities: Tensor | None = None

    def to(self, device: torch.device, memory_format: torch.memory_format) -> Self:
        """The batch on a device; cameras and modalities stay on the CPU, for a look-up."""
        del memory_format  # of images
        return replace(
            self,
            image_embeddings=self.image_embeddings.to(device),
            labels=self.labels.to(device),
        )

    def inputs(self) -> dict[str, Any]:
        """Arguments of the prompt stage's ``forward``, by name."""
        optional = {"cameras": self.cameras, "modalities": self.modalities}
        given = {name: value for name, value in optional.items() if value is not None}
        return {"image_embeddings": self.image_embeddings, "labels": self.labels, **given}


Batch = ImageBatch | FeatureBatch


class Batches:
    """The batches of each epoch, in an order that depends on the number of the epoch alone."""

    def __len__(self) -> int:
        """Batches of an epoch."""
        raise NotImplementedError

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, counted from 1."""
        raise NotImplementedError

    def names(self, rows: Sequence[int]) -> list[str]:
        """Names of rows, for messages."""
        return [f"image {row}" for row in rows]

    def facts(self) -> dict[str, Any]:
        """Facts to log of the batches of the last epoch."""
        return {}

    def state_dict(self) -> State:
        """Return the state that the next epochs need besides their number."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Restore a state."""


class CaptionTokens:
    """Tokens of the captions of a data set, in one of several wordings each epoch."""

    def __init__(
        self, towers: ClipTowers, captions: Sequence[str | None], data: Images, seed: int
    ) -> None:
        self.towers = towers
        self.too_long = data.too_long()

        synonyms = None if data.synonyms is None else _read_synonyms(Path(data.synonyms))
        options: dict[str, Any] = {} if data.paraphrases else {"templates": ()}
        self.wordings = CaptionSampler(
            captions,
            synonyms=synonyms,
            max_variations=data.caption_variations,
            seed=seed,
            **options,
        )
        self.fixed: Tensor | None = None
        if data.caption_variations == 1:
            self.fixed = self._tokenize([caption or "" for caption in captions])

    def __call__(self, rows: Tensor, epoch: int) -> Tensor:
        """Tokens of some rows in an epoch."""
        if self.fixed is not None:
            return self.fixed[rows]
        return self._tokenize([self.wordings.text(row, epoch) for row in rows.tolist()])

    def _tokenize(self, texts: list[str]) -> Tensor:
        return self.towers.tokenize(texts, too_long=self.too_long)


def _read_synonyms(path: Path) -> dict[str, list[str]]:
    """Read a file of synonyms; :class:`CaptionSampler` checks its values."""
    if not path.is_file():
        raise ValueError(f"data.synonyms: there is no file {path}.")
    try:
        synonyms: dict[str, list[str]] = json.loads(
            path.read_text(encoding="utf-8"), object_pairs_hook=_without_repeated_words
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"data.synonyms: {path} is not JSON ({error}). Repair it.") from None
    return synonyms


def _without_repeated_words(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of a word that is written twice, one list would be lost."""
    words = dict(pairs)
    if len(words) < len(pairs):
        repeated = next(word for word in words if [key for key, _ in pairs].count(word) > 1)
        raise ValueError(f"the word {repeated!r} is written twice")
    return words


class ImageBatches(Batches):
    """Images of a data set with its other columns: in PK batches, or mined."""

    def __init__(
        self,
        dataset: ReidDataset,
        categories: Sequence[CategoryIndex],
        captions: CaptionTokens | None,
        data: Images,
    ) -> None:
        self.dataset = dataset
        self.captions = captions
        self.orientations = data.orientations

        columns = {f"{index.field}s": index.of(dataset.records) for index in categories}
        self.columns = {
            name: column.repeat_interleave(data.orientations) for name, column in columns.items()
        }
        # Without a generator of its own a loader draws from that of dropout, and more often after
        # a pause.
        self.loading: dict[str, Any] = {
            "num_workers": data.workers,
            "pin_memory": data.pin_memory and torch.cuda.is_available(),
            "generator": torch.Generator(),
        }

    def batch(self, images: Tensor, labels: Tensor, rows: Tensor, epoch: int) -> ImageBatch:
        """A batch with the columns of its rows."""
        views = images.shape[1] if images.ndim == 5 else 1
        if views > 1:
            images = images.flatten(0, 1)
            labels, rows = (each.repeat_interleave(views) for each in (labels, rows))

        columns = {name: column[rows] for name, column in self.columns.items()}
        tokens = None if self.captions is None else self.captions(rows, epoch)
        image_ids = rows if views > 1 else None
        return ImageBatch(images, labels, rows, epoch - 1, tokens, image_ids=image_ids, **columns)

    def loader_of(self, sampler: Sampler[list[int]]) -> "DataLoader[Any]":
        """A loader of the images in the batches of a sampler."""
        return DataLoader(
            self.dataset,
            batch_sampler=sampler,
            persistent_workers=self.loading["num_workers"] > 0,
            **self.loading,
        )

    def names(self, rows: Sequence[int]) -> list[str]:
        """Paths of the images."""
        return [str(self.dataset.records[row // self.orientations].path) for row in rows]


class PKBatches(ImageBatches):
    """PK batches of one rank."""

    def __init__(
        self,
        dataset: ReidDataset,
        sampler: PKSampler | DomainPKSampler | CrossModalityPKSampler,
        categories: Sequence[CategoryIndex],
        captions: CaptionTokens | None,
        data: Images,
    ) -> None:
        super().__init__(dataset, categories, captions, data)
        self.sampler = sampler
        self.loader = self.loader_of(sampler)

    def __len__(self) -> int:
        return len(self.sampler)

    def __call__(self, epoch: int) -> Iterator[ImageBatch]:
        """The batches of an epoch."""
        self.dataset.set_epoch(epoch)
        self.sampler.set_epoch(epoch)
        for item in self.loader:
            yield self.batch(item.image, item.label, item.row, epoch)


class DividedBatches(Batches):
    """PK batches with weights of their pairs, which each epoch finds anew."""

    def __init__(self, batches: PKBatches, divide: Callable[[int], Tensor | None]) -> None:
        """Take batches, and what gives the weight of each row in an epoch; ``None`` for 1."""
        self.batches = batches
        self.divide = divide

    def __len__(self) -> int:
        return len(self.batches)

    def __call__(self, epoch: int) -> Iterator[ImageBatch]:
        """The batches of an epoch."""
        weights = self.divide(epoch)
        for batch in self.batches(epoch):
            pair_weights = None if weights is None else weights[batch.rows]
            yield replace(batch, pair_weights=pair_weights)

    def names(self, rows: Sequence[int]) -> list[str]:
        """Paths of the images."""
        return self.batches.names(rows)


class MinedBatches(ImageBatches):
    """Batches of mined rows of one rank, which are mined again after some epochs."""

    def __init__(
        self,
        dataset: ReidDataset,
        mine: Callable[[int], Tensor],
        categories: Sequence[CategoryIndex],
        captions: CaptionTokens | None,
        data: Images,
        *,
        batch_size: int,
        refresh_epochs: int,
        seed: int,
        rank: int,
        ranks: int,
    ) -> None:
        super().__init__(dataset, categories, captions, data)
        self.mine = mine
        self.batch_size = batch_size
        self.refresh_epochs = refresh_epochs
        self.seed = seed
        self.rank = rank
        self.ranks = ranks
        self.mined: MinedDataset | None = None

    def __len__(self) -> int:
        """Batches of an epoch; of triplets, which may be fewer, the most there can be."""
        return math.ceil(math.ceil(len(self.dataset) / self.batch_size) / self.ranks)

    def __call__(self, epoch: int) -> Iterator[ImageBatch]:
        """The batches of an epoch."""
        self.dataset.set_epoch(epoch)
        if self.mined is None or (epoch - 1) % self.refresh_epochs == 0:
            rows = [self.mine(epoch) if self.rank == 0 else None]
            broadcast_object_list(rows)  # all ranks need the same
            self.mined = MinedDataset(self.dataset, cast("Tensor", rows[0]))

        order: DistributedSampler[int] = DistributedSampler(
            self.mined, num_replicas=self.ranks, rank=self.rank, seed=self.seed
        )
        order.set_epoch(epoch)
        loader = DataLoader(
            self.mined,
            batch_sampler=BatchSampler(order, self.batch_size, drop_last=False),
            collate_fn=collate_mined,
            **self.loading,
        )
        for item in loader:
            yield self.batch(item.image, item.label, item.dataset_rows, epoch)

    def state_dict(self) -> State:
        """The mined rows."""
        return {} if self.mined is None else {"mined": self.mined.mined.clone()}

    def load_state_dict(self, state: State) -> None:
        """Restore the mined rows."""
        if state:
            self.mined = MinedDataset(self.dataset, state["mined"])


class PseudoLabelBatches(ImageBatches):
    """PK batches of clusters of one rank, which each epoch finds anew; outliers are left out."""

    def __init__(
        self,
        dataset: ReidDataset,
        find: Callable[[int], tuple[Tensor, dict[str, Any]]],
        categories: Sequence[CategoryIndex],
        data: Images,
        *,
        sampler: Callable[[Tensor, Tensor | None], PKSampler],
        batch_size: int,
        steps: int | None,
        ranks: int,
    ) -> None:
        """Take images and what gives each a cluster, -1 for none, with facts to log, in an epoch.

        ``sampler`` is called with labels and cameras of the clustered images.
        """
        super().__init__(dataset, categories, None, data)
        self.find = find
        self.sampler = sampler
        self.steps = steps or math.ceil(len(dataset) / (batch_size * ranks))
        self.found: dict[str, Any] = {}

    def __len__(self) -> int:
        """Batches of an epoch: as many in each, whatever the clusters."""
        return self.steps

    def __call__(self, epoch: int) -> Iterator[ImageBatch]:
        """The batches of an epoch."""
        labels, self.found = self.find(epoch)
        rows = torch.nonzero(labels >= 0).flatten()
        cameras = self.dataset.cameras
        sampler = self.sampler(labels[rows], None if cameras is None else cameras[rows])

        self.dataset.set_epoch(epoch)
        chosen = itertools.islice(_passes(sampler, epoch), self.steps)
        batches = [rows[batch].tolist() for batch in chosen]
        for item in DataLoader(self.dataset, batch_sampler=batches, **self.loading):
            yield self.batch(item.image, labels[item.row], item.row, epoch)

    def facts(self) -> dict[str, Any]:
        """The clusters of the last epoch."""
        return {"clusters": self.found}


def _passes(sampler: PKSampler, epoch: int) -> Iterator[list[int]]:
    """The batches of a sampler over and over, in another order each time."""
    for number in itertools.count(epoch * 1_000_003):
        sampler.set_epoch(number)
        yield from sampler


class FeatureBatches(Batches):
    """Cached features in random batches; each rank takes an equal share of every batch."""

    def __init__(self, features: FeatureBatch, size: int, seed: int, rank: int, ranks: int) -> None:
        self.features = features
        self.size = size
        self.seed = seed
        self.rank = rank
        self.ranks = ranks

    def __len__(self) -> int:
        return math.ceil(len(self.features.labels) / self.size)

    def __call__(self, epoch: int) -> Iterator[FeatureBatch]:
        """All rows once, in the order of this epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.features.labels), generator=generator)

        for rows in torch.split(order, self.size):
            # A last batch of fewer rows than ranks repeats some, so that every rank has one.
            shared = rows if len(rows) >= self.ranks else rows.repeat(self.ranks)[: self.ranks]
            even = len(shared) // self.ranks * self.ranks
            own = shared[:even][self.rank :: self.ranks]

            cameras, modalities = self.features.cameras, self.features.modalities
            yield FeatureBatch(
                self.features.image_embeddings[own],
                self.features.labels[own],
                own,
                None if cameras is None else cameras[own],
                None if modalities is None else modalities[own],
            )

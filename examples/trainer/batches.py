"""Training images as batches: pictures, labels, and what else a method takes, by name."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler

from clipreid_kit import PKSampler
from clipreid_kit.data import (
    CaptionSampler,
    MinedDataset,
    ReidDataset,
    ReidItem,
    collate_mined,
    mine_hard_negatives,
    mine_triplets,
    with_anchor_column,
)
from clipreid_kit.distances import l2_normalize
from examples.settings.config import Recipe
from examples.settings.rules import too_long, uses_text
from examples.trainer.evaluation import Encoder
from examples.trainer.loop import Batch


class TrainingBatches:
    """PK batches, or mined ones, of one rank; called with an epoch's number, it gives that epoch's."""

    def __init__(
        self, recipe: Recipe, dataset: ReidDataset, encoder: Encoder, rank: int, ranks: int
    ) -> None:
        self.recipe, self.dataset, self.encoder, self.rank, self.ranks = (
            recipe,
            dataset,
            encoder,
            rank,
            ranks,
        )
        data, batch = recipe.data, recipe.batch
        self.size = batch.num_identities * batch.num_instances
        known = {f"{n.field}s": n.of(dataset.records) for n in encoder.numbers}
        self.numbers = {
            name: column.repeat_interleave(data.orientations) for name, column in known.items()
        }
        self.captions, self.tokens = None, None
        if uses_text(recipe):
            words = (
                None
                if data.synonyms is None
                else json.loads(Path(data.synonyms).read_text(encoding="utf-8"))
            )
            options: dict[str, Any] = {} if data.paraphrases else {"templates": ()}
            options |= {
                "synonyms": words,
                "max_variations": data.caption_variations,
                "seed": recipe.seed,
            }
            self.captions = CaptionSampler(dataset.captions, **options)
            if data.caption_variations == 1:
                self.tokens = self._tokenize([c or "" for c in dataset.captions])
        # a generator of its own: a loader otherwise draws from the one of dropout, and not as often after a pause
        self.loading: dict[str, Any] = {"num_workers": data.workers, "generator": torch.Generator()}
        self.loading["pin_memory"] = data.pin_memory and torch.cuda.is_available()
        self.mined: MinedDataset | None = None
        self.sampler: PKSampler | None = None
        if recipe.mining.data == "standard":
            cameras = dataset.cameras if batch.spread_cameras else None
            options = {
                "seed": recipe.seed,
                "coverage": batch.coverage,
                "rank": rank,
                "world_size": ranks,
            }
            shape = (batch.num_identities, batch.num_instances)
            self.sampler = PKSampler(dataset.labels, *shape, cameras=cameras, **options)
            self.loading |= {"batch_sampler": self.sampler, "persistent_workers": data.workers > 0}
            self.loader = DataLoader(dataset, **self.loading)

    def __len__(self) -> int:
        """Batches of an epoch; of mined triplets, which may be fewer, the most there can be."""
        return (
            -(-len(self.dataset) // self.size // self.ranks)
            if self.sampler is None
            else len(self.sampler)
        )

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Batches with ``images``, ``labels`` and ``index``, and ``tokens``, ``cameras``, ``views`` where used."""
        self.dataset.set_epoch(epoch)
        if self.sampler is not None:
            self.sampler.set_epoch(epoch)
        for item in self._mined_batches(epoch) if self.sampler is None else self.loader:
            rows = item.row if isinstance(item, ReidItem) else item.dataset_rows
            batch = {"images": item.image, "labels": item.label, "index": rows}
            batch |= {name: numbers[rows] for name, numbers in self.numbers.items()}
            if self.tokens is not None:
                batch["tokens"] = self.tokens[rows]
            elif self.captions is not None:
                batch["tokens"] = self._tokenize(
                    [self.captions.text(i, epoch) for i in rows.tolist()]
                )
            yield batch

    def names(self, rows: Sequence[int]) -> list[str]:
        """Paths of the images of rows."""
        return [
            str(self.dataset.records[row // self.recipe.data.orientations].path) for row in rows
        ]

    def state_dict(self) -> Batch:
        """What the next epoch needs to be the same after a pause."""
        return {} if self.mined is None else {"mined": self.mined.mined.clone()}

    def load_state_dict(self, state: Batch) -> None:
        """Take back what :meth:`state_dict` gave."""
        if state:
            self.mined = MinedDataset(self.dataset, state["mined"])

    def _tokenize(self, texts: list[str]) -> Tensor:
        return self.encoder.towers.tokenize(texts, too_long=too_long(self.recipe))

    def _mined_batches(self, epoch: int) -> "DataLoader[Any]":
        if self.mined is None or (epoch - 1) % self.recipe.mining.refresh_epochs == 0:
            found = [
                self._mine(epoch) if self.rank == 0 else None
            ]  # once: all have to have the same
            self.mined = MinedDataset(self.dataset, broadcast_object_list(found)[0])
        share: dict[str, Any] = {
            "num_replicas": self.ranks,
            "rank": self.rank,
            "seed": self.recipe.seed,
        }
        order: DistributedSampler[int] = DistributedSampler(self.mined, **share)
        order.set_epoch(epoch)
        rows = BatchSampler(order, self.size, drop_last=False)
        return DataLoader(self.mined, batch_sampler=rows, collate_fn=collate_mined, **self.loading)

    def _mine(self, epoch: int) -> Tensor:
        mining, dataset, captions = self.recipe.mining, self.dataset, self.dataset.captions
        options: dict[str, Any] = {"captions": captions}
        if mining.data == "hard_negative" and mining.negatives == "random":
            options |= {"strategy": "random", "seed": self.recipe.seed, "epoch": epoch}
            return with_anchor_column(
                mine_hard_negatives(None, dataset.labels, mining.num_negatives, **options)
            )
        texts = self.encoder.texts([caption or "" for caption in captions])
        both = l2_normalize(self.encoder.images(dataset.records)) + l2_normalize(texts)
        if mining.data == "hard_negative":
            return with_anchor_column(
                mine_hard_negatives(both, dataset.labels, mining.num_negatives, **options)
            )
        options |= (
            {"labels": dataset.labels}
            if mining.positives == "identity"
            else {"caption_features": texts}
        )
        found = mine_triplets(both, strategy=mining.triplets, margin=mining.margin, **options)
        if not len(found):
            raise ValueError(
                f"epoch {epoch}: expected {mining.triplets} triplets to train on, got none. All are satisfied, or no "
                "image has a positive: raise mining.margin, or set mining.positives or mining.data to another."
            )
        return found

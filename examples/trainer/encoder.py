"""Options of the library's encoder, by which a run encodes images and captions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.data import DataLoader

from clipreid_kit.data import CategoryIndex, ImageRecord, ImageSpec, ReidDataset, eval_transform
from clipreid_kit.retrieval import Encoder
from examples.settings.evaluate import Evaluate


@dataclass(frozen=True)
class Encoding:
    """Encoding of images and captions for an evaluation.

    Attributes:
        spec: How images are shown to the towers.
        options: Batch size, and the views of an image that are averaged.
        categories: Numbers of cameras and views, where the towers have embeddings for them.
        too_long: Where a caption ends that is longer than the model's context.
        workers: Processes that load images.
        simplified: Encode by PromptSG's sentence without a pseudo word.
        quiet: Show no progress.
    """

    spec: ImageSpec
    options: Evaluate
    categories: Sequence[CategoryIndex]
    too_long: Literal["sentence", "cut"]
    workers: int
    simplified: bool
    quiet: bool

    def encoder(self, method: nn.Module) -> Encoder:
        """The encoder of a method, or of towers as they are."""
        return Encoder(
            method,
            self.spec,
            categories=self.categories,
            prompt="simplified" if self.simplified else "composed",
            flip=self.options.flip,
            rotations=self.options.rotations,
            too_long=self.too_long,
            normalize=False,  # the evaluators compare what the method returns
            batch_size=self.options.batch_size,
            workers=self.workers,
            progress=False if self.quiet else None,
        )

    def card(self) -> Mapping[str, Any]:
        """Return facts for the checkpoint: with them, ``Encoder.open`` encodes as the run did."""
        return {
            "image_spec": self.spec.as_dict(),
            "categories": {index.field: list(index.known) for index in self.categories},
            "encoding": {
                "prompt": "simplified" if self.simplified else "composed",
                "flip": self.options.flip,
                "rotations": self.options.rotations,
                "too_long": self.too_long,
            },
        }

    def loader(self, records: Sequence[ImageRecord]) -> "DataLoader[Any]":
        """Images in order, without augmentation."""
        # Starting processes takes longer than loading a few images.
        size = self.options.batch_size
        workers = self.workers if len(records) > 4 * size else 0
        dataset = ReidDataset(records, eval_transform(self.spec))
        return DataLoader(dataset, size, num_workers=workers, generator=torch.Generator())

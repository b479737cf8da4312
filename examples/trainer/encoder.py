"""Images and captions to embeddings, by a trained method or by towers as they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from tqdm import tqdm

from clipreid_kit import TestTimeAugmentation
from clipreid_kit.clip import ClipTowers, PromptSG
from clipreid_kit.data import (
    CategoryIndex,
    ImageRecord,
    ImageSpec,
    ReidDataset,
    eval_transform,
)
from clipreid_kit.distances import l2_normalize
from examples.settings.sections import Evaluate


@dataclass(frozen=True)
class Encoding:
    """How images and captions are encoded for an evaluation.

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

    def loader(self, records: Sequence[ImageRecord], angle: float = 0.0) -> "DataLoader[Any]":
        """Images in order, without augmentation; turned by an angle in degrees."""
        transform: Any = eval_transform(self.spec)
        if angle:
            bilinear = v2.InterpolationMode.BILINEAR
            turn = v2.RandomRotation((angle, angle), interpolation=bilinear, fill=self.spec.fill)
            transform = v2.Compose([turn, transform])

        # Starting processes takes longer than loading a few images.
        size = self.options.batch_size
        workers = self.workers if len(records) > 4 * size else 0
        dataset = ReidDataset(records, transform)
        return DataLoader(dataset, size, num_workers=workers, generator=torch.Generator())


class Encoder:
    """A method or towers that encode images and captions, in evaluation mode and full precision."""

    def __init__(self, method: nn.Module, encoding: Encoding) -> None:
        self.method = method
        self.encoding = encoding
        is_towers = isinstance(method, ClipTowers)
        self.towers = cast("ClipTowers", method if is_towers else method.towers)

    @torch.no_grad()
    def images(self, records: Sequence[ImageRecord]) -> Tensor:
        """Embeddings (N, D) in float32 on the CPU; of several rotations the mean."""
        was_training = self.method.training
        self.method.eval()

        angles = self.encoding.options.rotations
        text = self._text_options()
        quiet = self.encoding.quiet or None
        with tqdm(
            total=len(records) * len(angles),
            desc="encode",
            unit="images",
            leave=False,
            disable=quiet,
        ) as bar:
            views = [self._view(records, angle, text, bar.update) for angle in angles]

        self.method.train(was_training)
        if len(views) == 1:
            return views[0]
        return torch.stack([l2_normalize(view) for view in views]).mean(dim=0)

    @torch.no_grad()
    def texts(self, captions: Sequence[str]) -> Tensor:
        """Embeddings (N, D) of captions, in float32 on the CPU."""
        was_training = self.method.training
        self.method.eval()

        tokens = self.towers.tokenize(list(captions), too_long=self.encoding.too_long)
        parts = torch.split(tokens, self.encoding.options.batch_size)
        embeddings = torch.cat([self.towers.encode_text(part).float().cpu() for part in parts])

        self.method.train(was_training)
        return embeddings

    def _view(
        self,
        records: Sequence[ImageRecord],
        angle: float,
        text: dict[str, Tensor],
        progress: Callable[[int], object],
    ) -> Tensor:
        """Embeddings of all records, turned by an angle."""
        columns = {f"{index.field}s": index.of(records) for index in self.encoding.categories}
        parts = []
        for item in self.encoding.loader(records, angle):
            here = {name: column[item.row] for name, column in columns.items()}
            encode: Callable[[Tensor], Tensor] = partial(self._embed, **here, **text)
            if self.encoding.options.flip:
                encode = TestTimeAugmentation(encode)

            parts.append(encode(item.image).float().cpu())
            progress(len(item.image))
        return torch.cat(parts)

    def _embed(self, images: Tensor, **options: Any) -> Tensor:  # noqa: ANN401 (of the method)
        if self.method is self.towers:
            return self.towers.encode_image(images, **options)

        # The forward that accelerate puts in its place computes in the precision of training.
        forward: Any = getattr(self.method, "_original_forward", self.method)
        output = forward(images.to(next(self.towers.parameters()).device), **options)
        return cast("Tensor", output.embedding)

    def _text_options(self) -> dict[str, Tensor]:
        """PromptSG's simplified sentence, encoded once for all images."""
        if isinstance(self.method, PromptSG) and self.encoding.simplified:
            return {"text": self.method.composer.encode_plain(self.towers)[:1]}
        return {}

"""Tracklets in training and evaluation: their batches, their pooling, and tests of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from clipreid_kit import FrameAttention, FrameMean, FrameTransformer, TrackletSampler
from clipreid_kit import data as kit
from clipreid_kit.clip import ClipBaseline
from clipreid_kit.data import ImageRecord, ReidDataset
from clipreid_kit.metrics import pool_tracklets
from clipreid_kit.retrieval import Encoder
from examples.settings.batch import Tracklets
from examples.settings.evaluate import Evaluate
from examples.settings.stages import ClassifierRecipe
from examples.trainer.batches import ImageBatch, ImageBatches
from examples.trainer.records import Sides, Tests
from examples.trainer.session import Session


class TrackletBatches(ImageBatches):
    """Batches of tracklets (N, T, 3, H, W) of one rank, with a label for each."""

    def __init__(self, recipe: ClassifierRecipe, session: Session, dataset: ReidDataset) -> None:
        super().__init__(dataset, session.encoding.categories, None, recipe.data)
        options, batch = recipe.tracklets, recipe.batch
        self.num_frames = options.num_frames

        self.sampler = TrackletSampler(
            dataset.labels,
            dataset.tracklets,
            batch.num_identities,
            batch.num_instances,
            options.num_frames,
            frames=dataset.frames,
            selection=options.selection,
            stride=options.stride,
            cameras=dataset.cameras if batch.spread_cameras else None,
            coverage="tracklets" if batch.coverage == "images" else "identities",
            seed=recipe.seed,
            rank=session.rank,
            world_size=session.ranks,
        )
        self.loader = self.loader_of(self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)

    def __call__(self, epoch: int) -> Iterator[ImageBatch]:
        """The batches of an epoch."""
        self.dataset.set_epoch(epoch)
        self.sampler.set_epoch(epoch)
        for item in self.loader:
            first = slice(None, None, self.num_frames)
            of_first = self.batch(item.image, item.label[first], item.row[first], epoch)
            images = item.image.unflatten(0, (-1, self.num_frames))
            yield replace(of_first, images=images, rows=item.row)


def pooling_of(options: Tracklets, dim: int) -> nn.Module | None:
    """The pooling of a recipe's tracklets; ``None`` if it trains on images."""
    if not options.num_frames:
        return None

    match options.pooling:
        case "mean":
            return FrameMean()
        case "attention":
            return FrameAttention(dim)
        case "transformer":
            return FrameTransformer(
                dim, num_blocks=options.blocks, num_positions=options.num_frames
            )


@dataclass(frozen=True)
class TrackletTests:
    """Tests of tracklets, each shown by its first frame.

    Attributes:
        tests: The tests, with a record for each tracklet.
        frames: The frames to encode of each tracklet, by the path of its first.
    """

    tests: Tests
    frames: dict[str, list[ImageRecord]]

    def embed(self, encoder: Encoder) -> dict[str, Tensor]:
        """Encode all frames, and pool them as the method does, or else to their mean."""
        rows = [record for frames in self.frames.values() for record in frames]
        tracklets = [number for number, frames in enumerate(self.frames.values()) for _ in frames]

        method = encoder.model
        pool = None
        if isinstance(method, ClipBaseline) and method.pooling is not None:
            pool = method.pool_frames

        device = next(method.parameters()).device
        embeddings = encoder.encode_images(rows).to(device)
        if pool is None:
            embeddings = nn.functional.normalize(embeddings, dim=1)

        pooled = pool_tracklets(embeddings, tracklets, pool)
        return dict(zip(self.frames, pooled.embeddings.cpu(), strict=True))


def tracklet_tests(tests: Tests, options: Evaluate) -> TrackletTests:
    """Arrange tests of images into tests of their tracklets, as a recipe says."""
    frames: dict[str, list[ImageRecord]] = {}

    def of_tracklets(records: Sequence[ImageRecord]) -> list[ImageRecord]:
        grouped = kit.group_stills(records) if options.tracklets == "cameras" else list(records)
        shown = []
        for rows in kit.tracklet_rows(grouped):
            kept = [grouped[row] for row in _evenly(rows, options.num_frames)]
            first = grouped[rows[0]]
            frames[first.path] = kept
            shown.append(first)
        return shown

    arranged: Tests = {}
    for protocol, pairs in tests.items():
        sides: list[Sides] = []
        for query, gallery in pairs:
            shown = None if gallery is None else of_tracklets(gallery)
            sides.append((of_tracklets(query), shown))
        arranged[protocol] = sides
    return TrackletTests(arranged, frames)


def _evenly(rows: list[int], most: int | None) -> list[int]:
    """The middles of equal segments, if there are more rows than wanted."""
    if most is None or len(rows) <= most:
        return rows
    return [rows[(2 * i + 1) * len(rows) // (2 * most)] for i in range(most)]

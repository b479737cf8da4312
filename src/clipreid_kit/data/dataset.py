"""Records as a torch data set: decoded, augmented from (seed, epoch, index) alone, labelled."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from clipreid_kit._checks import fail
from clipreid_kit.data.images.load import load_image
from clipreid_kit.data.images.pixel_cache import PixelCache
from clipreid_kit.data.images.transforms import draws_nothing
from clipreid_kit.data.numbering import cameras_of, hash_number, identities_of, labels_of
from clipreid_kit.data.records import ImageRecord


class ReidItem(NamedTuple):
    """One item of a :class:`ReidDataset`, or a batch of them.

    torch's default collation turns a list of items into one ``ReidItem`` whose fields are tensors with a
    leading batch dimension: ``image`` (N, 3, H, W), and ``label``, ``camera`` and ``row`` of shape (N,),
    int64.

    Attributes:
        image: What the transform returned.
        label: Number of the identity, from 0.
        camera: Number of the camera, -1 if the data set knows none.
        row: Row of the item in the data set.
    """

    image: Float[Tensor, "..."]
    label: int
    camera: int
    row: int


class ReidDataset(Dataset[ReidItem]):
    """Images of identities, for a ``DataLoader`` and a sampler that works on :attr:`labels`.

    Use it for training and for evaluation alike; only the transform differs. Items depend on (seed, epoch,
    index) alone: torch's global CPU generator is set for each item and put back after it, so the number of
    workers, the order and the batches change nothing. (Python's ``random`` and NumPy's global generator are not set;
    torchvision's transforms do not use them.)

    For evaluation, query and gallery need *one* numbering of identities: pass the gallery's
    :attr:`identities` to the query set, as in the example. Cameras need no such care: equal cameras have
    equal numbers in every data set.

    Args:
        records: What to show; at least one.
        transform: Callable from a PIL picture to a tensor, such as :func:`train_transform` returns.
        seed: Seed of the augmentation, >= 0.
        orientations: 1, 4 or 8. With 4, every image also appears turned by 90, 180 and 270 degrees, and with
            8 mirrored as well; each orientation is an identity of its own, as is usual in few-shot learning
            on Omniglot. Item ``orientations * i + o`` shows record ``i`` in orientation ``o`` (turned
            counter-clockwise by ``90 * (o % 4)`` degrees, mirrored before if ``o >= 4``), with label
            ``orientations * label + o``.
        cache: Decode all images now and keep them as uint8 in memory (3 bytes a pixel); workers that are
            forked or spawned share it. Good for small images; a photograph takes as much as a raw bitmap of
            it.
        identities: The identities in the order of their labels; may hold more than occur. ``None`` numbers
            those that occur in sorted order.
        identity_transform: Callable from a picture to a picture, such as :func:`warp_transform` returns, applied
            before ``transform`` with random numbers from (seed, epoch, label): all images of an identity change
            alike, and in every epoch anew. Where identities are few, this makes further ones. ``None`` for none.

    Attributes:
        records: The records, as a tuple.
        identities: The identity of each label (of each ``orientations`` labels, if there are several).

    Raises:
        ValueError: If there are no records, an identity is not in ``identities``, identities are integers and
            strings mixed, some records have a camera and others none, an integer camera is negative, or an
            argument is out of range; and, from an item, if its image cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> from clipreid_kit.data import eval_transform
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("rex.png", "tom.png"):
        ...         Image.new("RGB", (4, 4), "red").save(pathlib.Path(folder, name))
        ...     records = [ImageRecord(f"{folder}/{name}.png", name, camera=1) for name in ("rex", "tom")]
        ...     gallery = ReidDataset(records, eval_transform(8), cache=True)
        ...     query = ReidDataset(records[1:], eval_transform(8), cache=True, identities=gallery.identities)
        >>> gallery.identities, gallery.labels, query.labels
        (('rex', 'tom'), tensor([0, 1]), tensor([1]))
        >>> item = query[0]
        >>> item.image.shape, item.label, item.camera, item.row
        (torch.Size([3, 8, 8]), 1, 1, 0)
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        transform: Callable[[Image.Image], Tensor],
        *,
        seed: int = 0,
        orientations: int = 1,
        cache: bool = False,
        identities: Sequence[int | str] | None = None,
        identity_transform: Callable[[Image.Image], Image.Image] | None = None,
    ) -> None:
        if not records:
            raise fail(
                "ReidDataset",
                "at least one record",
                "none",
                "Check the split that they were taken from.",
            )
        if orientations not in (1, 4, 8):
            raise fail("ReidDataset", "orientations to be 1, 4 or 8", orientations)
        if seed < 0:
            raise fail("ReidDataset", "seed >= 0", seed)
        self.records = tuple(records)
        self.transform = transform
        self.identity_transform = identity_transform
        self.seed = seed
        self.orientations = orientations
        self.identities = identities_of(self.records) if identities is None else tuple(identities)
        base_labels = labels_of(self.records, self.identities)
        offsets = torch.arange(orientations)
        self._labels = (base_labels[:, None] * orientations + offsets).flatten()
        cameras = cameras_of(self.records)
        self._cameras = None if cameras is None else cameras.repeat_interleave(orientations)
        # Looked up for each item: a list is ten times as fast as a tensor there.
        self._label_of: list[int] = self._labels.tolist()
        self._camera_of: list[int] | None = (
            None if self._cameras is None else self._cameras.tolist()
        )
        # In shared memory, so that set_epoch reaches workers that are already running.
        self._epoch = _shared(torch.zeros((), dtype=torch.int64))
        self._pixels = PixelCache(self.records) if cache else None

    def __len__(self) -> int:
        """Count the items: records times orientations."""
        return len(self.records) * self.orientations

    def __getitem__(self, index: int) -> ReidItem:
        """Load, orient and transform one image."""
        with self._random() as epoch:
            return self._item(index, epoch)

    def __getitems__(self, indices: Sequence[int]) -> list[ReidItem]:
        """Load a batch, as a ``DataLoader`` asks for it; each item as it is alone."""
        with self._random() as epoch:
            return [self._item(index, epoch) for index in indices]

    @contextmanager
    def _random(self) -> Iterator[int | None]:
        """Give the epoch to draw by, ``None`` if nothing is drawn; put torch's global generator back afterwards."""
        if self.identity_transform is None and draws_nothing(self.transform):
            yield None
            return
        # As torch.random.fork_rng does, but without a look at every accelerator, and once for a batch.
        generator = torch.default_generator
        before = generator.get_state()
        try:
            yield self.epoch
        finally:
            generator.set_state(before)

    def _item(self, index: int, epoch: int | None) -> ReidItem:
        index = range(len(self._label_of))[index]
        row, orientation = divmod(index, self.orientations)
        picture = load_image(self.records[row].path) if self._pixels is None else self._pixels[row]
        if orientation:
            picture = _orient(picture, orientation)
        label = self._label_of[index]
        if self.identity_transform is not None:
            self._draw("identity", epoch, label)
            picture = self.identity_transform(picture)
        if epoch is not None:
            self._draw("item", epoch, index)
        image: object = self.transform(picture)
        if not isinstance(image, Tensor):
            remedy = "Use train_transform or eval_transform, or end yours with v2.ToImage and v2.ToDtype."
            raise fail("ReidDataset", "transform to return a tensor", type(image).__name__, remedy)
        return ReidItem(
            image, label, -1 if self._camera_of is None else self._camera_of[index], index
        )

    def _draw(self, stream: str, epoch: int | None, number: int) -> None:
        """Let torch's global generator depend on (seed, epoch, number)."""
        torch.default_generator.manual_seed(hash_number(f"{stream} {self.seed} {epoch} {number}"))

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """The label of every item, for a sampler."""
        return self._labels

    @property
    def cameras(self) -> Int[Tensor, " n"] | None:
        """The camera of every item; ``None`` if the records have none.

        Integer cameras stay as they are. A string becomes a number that depends on the string alone (63 bits
        of its hash), so that cameras of two data sets compare; ``torch.unique(..., return_inverse=True)``
        makes small ones.
        """
        return self._cameras

    @property
    def captions(self) -> tuple[str | None, ...]:
        """The caption of every item, ``None`` where the record has none."""
        return tuple(record.caption for record in self.records for _ in range(self.orientations))

    @property
    def num_identities(self) -> int:
        """Number of different labels that there may be: identities times orientations."""
        return len(self.identities) * self.orientations

    @property
    def epoch(self) -> int:
        """The epoch that augmentation depends on now."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Let augmentation depend on the epoch; reaches running workers of a ``DataLoader`` as well.

        Call it before each pass over the data. Without it, every epoch sees the same augmented images.

        Args:
            epoch: Number of the epoch, >= 0.

        Raises:
            ValueError: If ``epoch < 0``.
        """
        if epoch < 0:
            raise fail("ReidDataset.set_epoch", "epoch >= 0", epoch)
        self._epoch.fill_(epoch)

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        _shared(self._epoch)  # a deep copy is not shared any more


def _shared(tensor: Tensor) -> Tensor:
    return tensor.share_memory_()  # type: ignore[no-untyped-call,no-any-return]


_TURNS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


def _orient(picture: Image.Image, orientation: int) -> Image.Image:
    if orientation >= 4:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turn = _TURNS[orientation % 4]
    return picture if turn is None else picture.transpose(turn)

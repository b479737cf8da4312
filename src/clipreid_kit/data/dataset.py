"""A torch data set of image records: images, labels and cameras, augmented reproducibly."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, NamedTuple

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from clipreid_kit._checks import check_integer, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.data._hash_number import hash_number
from clipreid_kit.data._item_random import ItemRandom, item_random
from clipreid_kit.data._labels_and_cameras import cameras_of, identities_of, labels_of
from clipreid_kit.data.images.load_image import load_image
from clipreid_kit.data.images.pixel_cache import PixelCache
from clipreid_kit.data.images.transforms import is_deterministic
from clipreid_kit.data.records import ImageRecord, check_records
from clipreid_kit.data.tracklets import tracklet_numbers


class ReidItem(NamedTuple):
    """One item of a :class:`ReidDataset`, or a batch of items.

    torch's default collation turns a list of items into one ``ReidItem`` whose fields are tensors
    with a leading batch dimension: ``image`` (N, 3, H, W); ``label``, ``camera`` and ``row`` (N,),
    int64.

    Attributes:
        image: The output of the transform.
        label: Number of the identity, from 0.
        camera: Number of the camera; -1 if the data set has no cameras.
        row: Row of the item in the data set.
    """

    image: Float[Tensor, "..."]
    label: int
    camera: int
    row: int


@fixed_options(not_kept=("cache",))
class ReidDataset(Dataset[ReidItem]):
    """Images of identities, for a ``DataLoader`` and a sampler that takes :attr:`labels`.

    Use it for training and for evaluation; only the transform differs. An item depends on (seed,
    epoch, index) alone: torch's random functions draw from a generator of the item while it is
    loaded, so the number of workers, the order and the batches change nothing, nor does a thread
    that loads items change the random numbers of another. (Python's ``random`` and NumPy's global
    generator are not seeded; torchvision's transforms do not use them.)

    For evaluation, query and gallery need *one* numbering of identities: pass the gallery's
    :attr:`identities` to the query set, as in the example. Cameras need no such care: equal cameras
    have equal numbers in every data set.

    Args:
        records: The images; at least one.
        transform: Callable from a PIL image to a tensor, such as :func:`train_transform` returns.
        seed: Seed of the augmentation, >= 0.
        orientations: 1, 4 or 8. With 4, every image also appears rotated by 90, 180 and 270
            degrees, with 8 also mirrored. Each orientation is another identity, as is usual in
            few-shot learning on Omniglot. Item ``orientations * i + o`` is record ``i`` in
            orientation ``o`` (mirrored if ``o >= 4``, then rotated counter-clockwise by
            ``90 * (o % 4)`` degrees), with label ``orientations * label + o``.
        cache: Whether to decode all images now and keep them as uint8 in memory (3 bytes a pixel),
            shared with workers. Use it for small images; a photograph takes as much memory as its
            raw bitmap.
        identities: The identities in the order of their labels; may include identities without
            images. ``None`` numbers those that occur, in sorted order.
        identity_transform: Callable from an image to an image, such as :func:`warp_transform`
            returns, applied before ``transform`` with random numbers from (seed, epoch, label): all
            images of an identity change alike, and differently in every epoch. It adds identities
            where there are few. ``None`` for none.

    Attributes:
        records: The records, as a tuple.
        identities: The identity of each label; with several orientations, of each ``orientations``
            consecutive labels.

    Raises:
        ValueError: If there are no records, an identity is not in ``identities``, some identities
            are integers and others strings, some records have a camera and others none, an integer
            camera is negative, or an argument is out of range; and, from an item, if its image
            cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> from clipreid_kit.data import eval_transform
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("rex", "tom"):
        ...         Image.new("RGB", (4, 4), "red").save(pathlib.Path(folder, f"{name}.png"))
        ...     rex = ImageRecord(f"{folder}/rex.png", "rex", camera=1)
        ...     tom = ImageRecord(f"{folder}/tom.png", "tom", camera=1)
        ...     gallery = ReidDataset([rex, tom], eval_transform(8), cache=True)
        ...     query = ReidDataset(
        ...         [tom], eval_transform(8), cache=True, identities=gallery.identities
        ...     )
        >>> gallery.identities, gallery.labels, query.labels
        (('rex', 'tom'), tensor([0, 1]), tensor([1]))
        >>> item = query[0]
        >>> item.image.shape, item.label, item.camera, item.row
        (torch.Size([3, 8, 8]), 1, 1, 0)
        >>> query
        ReidDataset(num_items=1, num_identities=2, num_cameras=1, orientations=1, seed=0,
            cache=True)
    """

    records: Final[tuple[ImageRecord, ...]]
    orientations: Final[int]
    identities: Final[tuple[int | str, ...]]

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
            raise ValueError(
                "ReidDataset: there are no records. Check the split that they were taken from."
            )
        if orientations not in (1, 4, 8):
            raise fail("ReidDataset", "orientations to be 1, 4 or 8", repr(orientations))
        check_integer("ReidDataset", "seed", seed, 0)
        check_records("ReidDataset", records)

        self.records = tuple(records)
        self.transform = transform
        self.identity_transform = identity_transform
        self.seed = seed
        self.orientations = orientations

        self.identities = identities_of(self.records) if identities is None else tuple(identities)
        labels = labels_of(self.records, self.identities)
        self._labels = (
            labels[:, None] * orientations + torch.arange(orientations, device="cpu")
        ).flatten()

        cameras = cameras_of(self.records)
        self._cameras = None if cameras is None else cameras.repeat_interleave(orientations)

        # Read once for each item: a list is ten times as fast as a tensor there.
        self._label_of: list[int] = self._labels.tolist()
        self._camera_of: list[int] | None = None
        if self._cameras is not None:
            self._camera_of = self._cameras.tolist()

        # In shared memory, so that set_epoch reaches workers that are already running.
        self._epoch = _shared(torch.zeros((), dtype=torch.int64, device="cpu"))
        self._pixels = PixelCache(self.records) if cache else None

    def __len__(self) -> int:
        """Return the number of items: records times orientations."""
        return len(self.records) * self.orientations

    def __repr__(self) -> str:
        num_cameras = 0 if self._camera_of is None else len(set(self._camera_of))
        return (
            f"ReidDataset(num_items={len(self)}, num_identities={self.num_identities}, "
            f"num_cameras={num_cameras}, orientations={self.orientations}, seed={self.seed}, "
            f"cache={self._pixels is not None})"
        )

    def __getitem__(self, index: int) -> ReidItem:
        """Load, orient and transform one image."""
        with self._random() as random:
            return self._item(index, random)

    def __getitems__(self, indices: Sequence[int]) -> list[ReidItem]:
        """Load a batch for a ``DataLoader``; each item is as :meth:`__getitem__` returns it."""
        with self._random() as random:
            return [self._item(index, random) for index in indices]

    def _random(self) -> AbstractContextManager[ItemRandom | None]:
        """Return the random numbers of items; ``None`` if nothing is random."""
        if self.identity_transform is None and is_deterministic(self.transform):
            return nullcontext()
        return item_random()

    def _item(self, index: int, random: ItemRandom | None) -> ReidItem:
        """Load, orient and transform one image; ``random`` is ``None`` if nothing is random."""
        try:
            index = range(len(self._label_of))[index]  # negative indices count from the end
        except TypeError:
            raise ValueError(
                f"ReidDataset: expected one row, got {type(index).__name__}. A sampler of batches, "
                "such as PKSampler, is passed to a loader as batch_sampler, not as sampler."
            ) from None
        label = self._label_of[index]
        camera = -1 if self._camera_of is None else self._camera_of[index]

        image = self._oriented_image(index)
        if self.identity_transform is not None and random is not None:
            random.seed(self._seed_of("identity", label))
            image = self.identity_transform(image)

        if random is not None:
            random.seed(self._seed_of("item", index))
        transformed: object = self.transform(image)

        if not isinstance(transformed, Tensor):
            raise ValueError(
                f"ReidDataset: the transform returned a {type(transformed).__name__}; it has to "
                "return a tensor. Use train_transform or eval_transform, or end yours with "
                "v2.ToImage and v2.ToDtype."
            )
        return ReidItem(transformed, label, camera, index)

    def _oriented_image(self, index: int) -> Image.Image:
        """Return the image of an item, in its orientation."""
        row, orientation = divmod(index, self.orientations)
        image = load_image(self.records[row].path) if self._pixels is None else self._pixels[row]
        return _orient(image, orientation) if orientation else image

    def _seed_of(self, stream: str, number: int) -> int:
        """Return a seed that depends on (stream, seed, epoch, number) alone."""
        return hash_number(f"{stream} {self.seed} {self.epoch} {number}")

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """The label of every item, for a sampler."""
        return self._labels

    @property
    def cameras(self) -> Int[Tensor, " n"] | None:
        """The camera of every item; ``None`` if the records have none.

        Integer cameras stay as they are, and strings of digits (``02``) become the number that they
        write. Any other string becomes a number that depends on it alone (63 bits of its hash), so
        that cameras of two data sets compare, however each was read;
        ``torch.unique(..., return_inverse=True)`` makes small numbers of them.
        """
        return self._cameras

    @property
    def image_numbers(self) -> Int[Tensor, " n"]:
        """A number for the image of every item; copies of a record have the same.

        Pass it as ``images`` to a sampler or to :func:`mine_triplets`, which then take no copy of
        an image for its positive. Orientations of an image are images of their own.
        """
        number_of: dict[str, int] = {}
        numbers = [number_of.setdefault(record.path, len(number_of)) for record in self.records]
        turned = torch.tensor(numbers, device="cpu")[:, None] * self.orientations
        return (turned + torch.arange(self.orientations, device="cpu")).flatten()

    @property
    def tracklets(self) -> Int[Tensor, " n"]:
        """A number for the tracklet of every item, for :class:`TrackletSampler`.

        Orientations of a tracklet are tracklets of their own.

        Raises:
            ValueError: If the records have no tracklets; see :func:`check_tracklets`.
        """
        turned = tracklet_numbers(self.records)[:, None] * self.orientations
        return (turned + torch.arange(self.orientations, device="cpu")).flatten()

    @property
    def frames(self) -> Int[Tensor, " n"] | None:
        """The frame of every item; ``None`` if a record has none: then the items are in order."""
        frames = [record.frame for record in self.records]
        if any(frame is None for frame in frames):
            return None
        return torch.tensor(frames, device="cpu").repeat_interleave(self.orientations)

    @property
    def captions(self) -> tuple[str | None, ...]:
        """The caption of every item; ``None`` where the record has none."""
        return tuple(record.caption for record in self.records for _ in range(self.orientations))

    @property
    def num_identities(self) -> int:
        """Number of labels: identities times orientations."""
        return len(self.identities) * self.orientations

    @property
    def epoch(self) -> int:
        """The epoch that the augmentation depends on now."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the augmentation depends on, also in running workers.

        Call it before each pass over the data. Without it, every epoch sees the same augmented
        images.

        Args:
            epoch: Number of the epoch, >= 0.

        Raises:
            ValueError: If ``epoch < 0``.
        """
        check_integer("ReidDataset.set_epoch", "epoch", epoch, 0)
        self._epoch.fill_(epoch)

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        _shared(self._epoch)  # a deep copy is not in shared memory any more


def _shared(tensor: Tensor) -> Tensor:
    """Move a tensor into shared memory."""
    return tensor.share_memory_()  # type: ignore[no-untyped-call,no-any-return]


_ROTATIONS = (
    None,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_180,
    Image.Transpose.ROTATE_270,
)


def _orient(image: Image.Image, orientation: int) -> Image.Image:
    """Mirror an image if the orientation is 4 or more, then rotate it by quarter turns."""
    if orientation >= 4:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    rotation = _ROTATIONS[orientation % 4]
    return image if rotation is None else image.transpose(rotation)

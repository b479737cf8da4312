"""Items together with what was mined for them, and batches that hold each image once."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data.dataset import ReidDataset, ReidItem
from clipreid_kit.data.prompts.variations import CaptionSampler


class MinedItem(NamedTuple):
    """An anchor and what was mined for it.

    Attributes:
        items: The anchor first; what is missing is left out.
        captions: The text of each, ``None`` where there is none.
        places: For the anchor and each thing mined its place in ``items``, -1 where there was none.
    """

    items: tuple[ReidItem, ...]
    captions: tuple[str | None, ...]
    places: tuple[int, ...]


class MinedBatch(NamedTuple):
    """What :func:`collate_mined` makes of a list of :class:`MinedItem`: each image once, as rows for any loss.

    Attributes:
        image: (M, 3, H, W).
        caption: The text of each row, ``None`` where there is none; tokenise them as they are.
        label: (M,) int64.
        camera: (M,) int64, -1 where unknown.
        dataset_rows: (M,) int64, rows of the items in the data set; no two are equal.
        rows: (B, m) int64: for each anchor its row, then those of what was mined for it; -1 where there was none.
    """

    image: Float[Tensor, "m 3 h w"]
    caption: tuple[str | None, ...]
    label: Int[Tensor, " m"]
    camera: Int[Tensor, " m"]
    dataset_rows: Int[Tensor, " m"]
    rows: Int[Tensor, "b k"]


class MinedDataset(Dataset[MinedItem]):
    """A :class:`ReidDataset` that shows each item with its negatives, or whole triplets.

    Use it with ``DataLoader(..., collate_fn=collate_mined)``. The three usual kinds:

    - *standard*: without ``mined``, an item alone;
    - *hard negatives*: what :func:`mine_hard_negatives` gives, as ``with_anchor_column(negatives)``;
    - *triplets*: what :func:`mine_triplets` gives.

    Encode the rows of a batch once. ``HardNegativeContrastiveLoss``, ``SupConLoss`` and ``TripletLoss`` take the
    embeddings with ``batch.label``; a loss on given triplets takes ``embeddings[batch.rows[:, 0]]`` and so on.

    Args:
        dataset: Where images and labels come from.
        mined: Numbers of items, a row for each item that is to be shown: the anchor, then what belongs to it; -1 for
            nothing. ``None`` shows all items of the data set, each alone.
        captions: A text for each item of the data set, or a :class:`CaptionSampler`, which varies them by epoch;
            ``None`` for those of the data set.

    Raises:
        ValueError: If ``mined`` has no row or a number that the data set has not, or the captions are too few or many.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> from clipreid_kit.data import ImageRecord, eval_transform
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in "abc":
        ...         Image.new("RGB", (4, 4)).save(pathlib.Path(folder, f"{name}.png"))
        ...     records = [ImageRecord(f"{folder}/{name}.png", name, caption=f"a {name}") for name in "abc"]
        ...     mined = MinedDataset(ReidDataset(records, eval_transform(4)), torch.tensor([[0, 2], [1, 2], [2, -1]]))
        ...     batch = collate_mined([mined[0], mined[1], mined[2]])
        >>> batch.caption, batch.label.tolist(), batch.rows.tolist()
        (('a a', 'a c', 'a b'), [0, 2, 1], [[0, 1], [2, 1], [1, -1]])
    """

    def __init__(
        self,
        dataset: ReidDataset,
        mined: Int[Tensor, "t k"] | None = None,
        *,
        captions: Sequence[str | None] | CaptionSampler | None = None,
    ) -> None:
        chosen = torch.arange(len(dataset))[:, None] if mined is None else mined
        texts = dataset.captions if captions is None else captions
        if isinstance(texts, str) or len(texts) != len(dataset):
            raise fail("MinedDataset", f"{len(dataset)} captions, one for each item", len(texts))
        _check_mined("MinedDataset", chosen, len(dataset))
        self.dataset = dataset
        self._captions = texts if isinstance(texts, CaptionSampler) else tuple(texts)
        # In shared memory with a row for each item, so that what is mined later reaches workers that run.
        room = max(len(dataset), len(chosen))
        self._mined = _shared(torch.full((room, chosen.shape[1]), -1, dtype=torch.int64))
        self._state = _shared(torch.tensor([0, -1]))  # rows in use, epoch of the last refresh
        self._fill(chosen)

    def __len__(self) -> int:
        """Count the anchors."""
        return int(self._state[0])

    def __getitem__(self, index: int) -> MinedItem:
        """Load an anchor and what was mined for it."""
        numbers = self.mined[range(len(self))[index]].tolist()
        there = [number for number in numbers if number >= 0]
        epoch = self.dataset.epoch
        if isinstance(self._captions, CaptionSampler):
            texts: tuple[str | None, ...] = tuple(
                self._captions.text(number, epoch) for number in there
            )
        else:
            texts = tuple(self._captions[number] for number in there)
        place = iter(range(len(there)))
        places = tuple(next(place) if number >= 0 else -1 for number in numbers)
        return MinedItem(tuple(self.dataset[number] for number in there), texts, places)

    @property
    def mined(self) -> Int[Tensor, "t k"]:
        """The numbers of the items, as they are now."""
        return self._mined[: len(self)]

    @property
    def labels(self) -> Int[Tensor, " t"]:
        """The label of every anchor, for a sampler; make a new sampler when triplets were mined anew."""
        return self.dataset.labels[self.mined[:, 0]]

    def update(self, mined: Int[Tensor, "t k"]) -> None:
        """Show from now on what was mined anew; reaches running workers of a ``DataLoader`` as well.

        Args:
            mined: As before; as many columns, and at most as many rows as there are items.

        Raises:
            ValueError: If the shape does not fit, or a number is out of range.
        """
        owner = "MinedDataset.update"
        _check_mined(owner, mined, len(self.dataset))
        room, width = self._mined.shape
        if mined.shape[1] != width or len(mined) > room:
            raise fail(owner, f"at most {room} rows of {width} numbers", tuple(mined.shape))
        self._fill(mined)

    def refresh(
        self, epoch: int, mine: Callable[[], Int[Tensor, "t k"]], *, every: int = 1
    ) -> bool:
        """Begin an epoch, and mine anew if it is time to.

        Use it before each epoch in place of :meth:`set_epoch`. Epochs 0, n, 2n ... are those to mine in; a training
        that is resumed in between mines at once.

        Args:
            epoch: Number of the epoch, >= 0.
            mine: Encodes the images as the model is now and mines; called only if it is time.
            every: n, in epochs, >= 1.

        Returns:
            Whether it was time.

        Raises:
            ValueError: If a number is out of range, or what was mined does not fit.
        """
        owner = "MinedDataset.refresh"
        check_integer(owner, "every", every, 1)
        self.set_epoch(epoch)
        last = int(self._state[1])
        due = last < 0 or last // every != epoch // every
        if due:
            self.update(mine())
            self._state[1] = epoch
        return due

    def set_epoch(self, epoch: int) -> None:
        """Let augmentation and captions depend on the epoch.

        Args:
            epoch: Number of the epoch, >= 0.

        Raises:
            ValueError: If ``epoch < 0``.
        """
        self.dataset.set_epoch(epoch)

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        _shared(self._mined)
        _shared(self._state)

    def _fill(self, mined: Tensor) -> None:
        self._mined[: len(mined)] = mined
        self._state[0] = len(mined)


def with_anchor_column(negatives: Int[Tensor, "n k"]) -> Int[Tensor, "n m"]:
    """Put the number of each item before those of its negatives.

    Args:
        negatives: As :func:`mine_hard_negatives` gives them.

    Returns:
        A column more, for :class:`MinedDataset`.

    Example:
        >>> with_anchor_column(torch.tensor([[5, 7], [3, -1]]))
        tensor([[ 0,  5,  7],
                [ 1,  3, -1]])
    """
    return torch.cat([torch.arange(len(negatives))[:, None], negatives], dim=1)


def collate_mined(items: Sequence[MinedItem]) -> MinedBatch:
    """Make a batch of mined items in which no image occurs twice.

    Args:
        items: From one :class:`MinedDataset`; at least one.

    Returns:
        The rows in the order of their first use.
    """
    row_of: dict[int, int] = {}
    shown: list[ReidItem] = []
    captions: list[str | None] = []
    rows = []
    for mined in items:
        for item, caption in zip(mined.items, mined.captions, strict=True):
            if item.row not in row_of:
                row_of[item.row] = len(shown)
                shown.append(item)
                captions.append(caption)
        rows.append(
            [row_of[mined.items[place].row] if place >= 0 else -1 for place in mined.places]
        )
    return MinedBatch(
        image=torch.stack([item.image for item in shown]),
        caption=tuple(captions),
        label=torch.tensor([item.label for item in shown]),
        camera=torch.tensor([item.camera for item in shown]),
        dataset_rows=torch.tensor([item.row for item in shown]),
        rows=torch.tensor(rows),
    )


def _check_mined(owner: str, mined: Tensor, items: int) -> None:
    if mined.ndim != 2 or mined.shape[1] == 0 or mined.is_floating_point():
        raise fail(
            owner,
            "mined as a matrix of whole numbers (T, m)",
            f"{mined.dtype} of shape {tuple(mined.shape)}",
        )
    if len(mined) == 0:
        raise fail(
            owner,
            "at least one row of mined items",
            "none",
            "Mine with a larger margin, or with less left out.",
        )
    anchors = mined[:, 0]
    if int(mined.max()) >= items or int(mined.min()) < -1 or int(anchors.min()) < 0:
        expected = (
            f"numbers of items from 0 to {items - 1}, and -1 for nothing but not for an anchor"
        )
        raise fail(owner, expected, f"{int(mined.min())} to {int(mined.max())}")


def _shared(tensor: Tensor) -> Tensor:
    return tensor.share_memory_()  # type: ignore[no-untyped-call,no-any-return]

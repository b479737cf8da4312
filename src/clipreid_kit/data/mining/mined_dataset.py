"""Load items together with their mined negatives or triplets, each image once in a batch."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from clipreid_kit._checks import check_integer, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.data.dataset import ReidDataset, ReidItem
from clipreid_kit.data.prompts.caption_variations import CaptionSampler


class MinedItem(NamedTuple):
    """An anchor and the items that were mined for it.

    Attributes:
        items: The anchor, then the mined items; missing ones are left out.
        captions: The text of each item, ``None`` for an item without one.
        positions: Position in ``items`` of the anchor and of each mined item, -1 for a missing one.
    """

    items: tuple[ReidItem, ...]
    captions: tuple[str | None, ...]
    positions: tuple[int, ...]


class MinedBatch(NamedTuple):
    """A batch of mined items in which each image is one row, for any loss.

    Attributes:
        image: (M, 3, H, W).
        caption: The text of each row, ``None`` for a row without one; ready to be tokenised.
        label: (M,) int64.
        camera: (M,) int64, -1 where unknown.
        dataset_rows: (M,) int64, rows of the items in the data set; no two are equal.
        mined_rows: (B, m) int64, rows of this batch: for each anchor its own row, then the rows of
            its mined items; -1 for a missing one.
    """

    image: Float[Tensor, "m 3 h w"]
    caption: tuple[str | None, ...]
    label: Int[Tensor, " m"]
    camera: Int[Tensor, " m"]
    dataset_rows: Int[Tensor, " m"]
    mined_rows: Int[Tensor, "b k"]


@fixed_options(not_kept=("captions",))
class MinedDataset(Dataset[MinedItem]):
    """A data set that loads each item with its negatives, or whole triplets.

    Use it with ``DataLoader(..., collate_fn=collate_mined)``. There are three usual kinds:

    - *standard*: without ``mined``, each item alone;
    - *hard negatives*: ``with_anchor_column(negatives)`` of the result of
      :func:`mine_hard_negatives`;
    - *triplets*: the result of :func:`mine_triplets`.

    Encode the rows of a batch once. ``HardNegativeContrastiveLoss``, ``SupConLoss`` and
    ``TripletLoss`` take the embeddings with ``batch.label``; a loss on given triplets takes
    ``embeddings[batch.mined_rows[:, 0]]`` and so on.

    Args:
        dataset: Source of images and labels.
        mined: Rows of the data set, one line for each anchor: the anchor, then its mined items; -1
            for a missing one. ``None`` loads all items of the data set, each alone.
        captions: A text for each item of the data set, or a :class:`CaptionSampler`, which varies
            them by epoch; ``None`` takes the captions of the data set.

    Raises:
        ValueError: If ``mined`` is empty or names a row that the data set does not have, or the
            number of captions is wrong.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> from clipreid_kit.data import ImageRecord, eval_transform
        >>> triples = torch.tensor([[0, 2], [1, 2], [2, -1]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     records = []
        ...     for name in "abc":
        ...         path = pathlib.Path(folder, f"{name}.png")
        ...         Image.new("RGB", (4, 4)).save(path)
        ...         records.append(ImageRecord(str(path), name, caption=f"a {name}"))
        ...     mined = MinedDataset(ReidDataset(records, eval_transform(4)), triples)
        ...     batch = collate_mined([mined[0], mined[1], mined[2]])
        >>> batch.caption, batch.label.tolist(), batch.mined_rows.tolist()
        (('a a', 'a c', 'a b'), [0, 2, 1], [[0, 1], [2, 1], [1, -1]])
        >>> mined
        MinedDataset(num_anchors=3, num_mined=1, num_items=3)
    """

    def __init__(
        self,
        dataset: ReidDataset,
        mined: Int[Tensor, "t k"] | None = None,
        *,
        captions: Sequence[str | None] | CaptionSampler | None = None,
    ) -> None:
        owner = "MinedDataset"
        texts = dataset.captions if captions is None else captions
        if isinstance(texts, str) or len(texts) != len(dataset):
            raise fail(owner, f"{len(dataset)} captions, one for each item", len(texts))

        if mined is None:
            mined = torch.arange(len(dataset), device="cpu")[:, None]
        _check_mined(owner, mined, len(dataset))

        self.dataset = dataset
        self._captions = texts if isinstance(texts, CaptionSampler) else tuple(texts)

        # In shared memory, with room for an anchor for each item, so that an update reaches the
        # workers that are already running.
        max_anchors = max(len(dataset), len(mined))
        empty = torch.full((max_anchors, mined.shape[1]), -1, dtype=torch.int64, device="cpu")
        self._mined = _shared(empty)
        # anchors in use, epoch of the last refresh
        self._state = _shared(torch.tensor([0, -1], device="cpu"))
        self._fill(mined)

    def __len__(self) -> int:
        """Count the anchors."""
        return int(self._state[0])

    def __getitem__(self, index: int) -> MinedItem:
        """Load an anchor and its mined items."""
        anchor = range(len(self))[index]
        epoch = self.dataset.epoch

        items: list[ReidItem] = []
        captions: list[str | None] = []
        positions: list[int] = []
        for row in self.mined[anchor].tolist():
            if row < 0:
                positions.append(-1)
                continue
            positions.append(len(items))
            items.append(self.dataset[row])
            captions.append(self._caption(row, epoch))

        return MinedItem(tuple(items), tuple(captions), tuple(positions))

    def __repr__(self) -> str:
        num_anchors, width = self.mined.shape
        sizes = f"num_anchors={num_anchors}, num_mined={width - 1}, num_items={len(self.dataset)}"

        if isinstance(self._captions, CaptionSampler):
            return f"MinedDataset({sizes}, captions={self._captions!r})"
        return f"MinedDataset({sizes})"

    @property
    def mined(self) -> Int[Tensor, "t k"]:
        """The rows of anchors and mined items that are in use."""
        return self._mined[: len(self)]

    @property
    def labels(self) -> Int[Tensor, " t"]:
        """The label of every anchor, for a sampler; after an update, build a new sampler."""
        return self.dataset.labels[self.mined[:, 0]]

    def update(self, mined: Int[Tensor, "t k"]) -> None:
        """Replace the mined items; running workers of a ``DataLoader`` load the new ones too.

        Args:
            mined: Newly mined rows, with as many columns as before and at most one line for each
                item.

        Raises:
            ValueError: If the shape does not fit, or a row is out of range.
        """
        owner = "MinedDataset.update"
        _check_mined(owner, mined, len(self.dataset))

        max_anchors, width = self._mined.shape
        if mined.shape[1] != width or len(mined) > max_anchors:
            raise fail(owner, f"at most {max_anchors} lines of {width} rows", tuple(mined.shape))

        self._fill(mined)

    def refresh(
        self, epoch: int, mine: Callable[[], Int[Tensor, "t k"]], *, every: int = 1
    ) -> bool:
        """Begin an epoch, and mine again if a new round is due.

        Use it before each epoch in place of :meth:`set_epoch`. A new round is due in epochs 0, n,
        2n, ...; a training run that resumes between two of them mines at once.

        Args:
            epoch: Number of the epoch, >= 0.
            mine: Encodes the images with the present model and mines; called only if a round is
                due.
            every: Number n of epochs between two rounds, >= 1.

        Returns:
            True if the items were mined again.

        Raises:
            ValueError: If a number is out of range, or the result of ``mine`` does not fit.
        """
        check_integer("MinedDataset.refresh", "every", every, 1)
        self.set_epoch(epoch)

        last_refresh = int(self._state[1])
        is_due = last_refresh < 0 or last_refresh // every != epoch // every
        if is_due:
            self.update(mine())
            self._state[1] = epoch

        return is_due

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that augmentation and captions depend on.

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

    def _caption(self, row: int, epoch: int) -> str | None:
        if isinstance(self._captions, CaptionSampler):
            return self._captions.text(row, epoch)
        return self._captions[row]

    def _fill(self, mined: Int[Tensor, "t k"]) -> None:
        self._mined[: len(mined)] = mined
        self._state[0] = len(mined)


def with_anchor_column(negatives: Int[Tensor, "n k"]) -> Int[Tensor, "n m"]:
    """Put each item's own row before the rows of its negatives.

    Args:
        negatives: The result of :func:`mine_hard_negatives`.

    Returns:
        The same with one more column, for :class:`MinedDataset`.

    Example:
        >>> with_anchor_column(torch.tensor([[5, 7], [3, -1]]))
        tensor([[ 0,  5,  7],
                [ 1,  3, -1]])
    """
    anchors = torch.arange(len(negatives), device="cpu")[:, None]
    return torch.cat([anchors, negatives], dim=1)


def collate_mined(items: Sequence[MinedItem]) -> MinedBatch:
    """Build a batch of mined items in which no image occurs twice.

    Args:
        items: Items of one :class:`MinedDataset`; at least one.

    Returns:
        The batch, with rows in the order of their first use.
    """
    batch_row_of: dict[int, int] = {}
    loaded: list[ReidItem] = []
    captions: list[str | None] = []
    mined_rows = []

    for mined in items:
        for item, caption in zip(mined.items, mined.captions, strict=True):
            if item.row not in batch_row_of:
                batch_row_of[item.row] = len(loaded)
                loaded.append(item)
                captions.append(caption)

        own_rows = [batch_row_of[item.row] for item in mined.items]
        own_rows.append(-1)  # which a position of -1 picks
        mined_rows.append([own_rows[position] for position in mined.positions])

    return MinedBatch(
        image=torch.stack([item.image for item in loaded]),
        caption=tuple(captions),
        label=torch.tensor([item.label for item in loaded], device="cpu"),
        camera=torch.tensor([item.camera for item in loaded], device="cpu"),
        dataset_rows=torch.tensor([item.row for item in loaded], device="cpu"),
        mined_rows=torch.tensor(mined_rows, device="cpu"),
    )


def _check_mined(owner: str, mined: Tensor, num_items: int) -> None:
    if mined.ndim != 2 or mined.shape[1] == 0 or mined.is_floating_point():
        got = f"{mined.dtype} of shape {tuple(mined.shape)}"
        raise fail(owner, "mined as a matrix of whole numbers (T, m)", got)

    if len(mined) == 0:
        raise ValueError(
            f"{owner}: mined is empty. Mine with a larger margin, or exclude fewer items."
        )

    lowest, highest = int(mined.min()), int(mined.max())
    if lowest < -1 or highest >= num_items:
        expected = f"rows of the data set from 0 to {num_items - 1} in mined, or -1 for none"
        raise fail(owner, expected, f"{lowest} to {highest}")

    if int(mined[:, 0].min()) < 0:
        raise ValueError(
            f"{owner}: the first column of mined holds the anchors; it cannot have -1."
        )


def _shared(tensor: Tensor) -> Tensor:
    return tensor.share_memory_()  # type: ignore[no-untyped-call,no-any-return]

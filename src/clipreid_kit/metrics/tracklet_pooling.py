"""Pool embeddings of frames to embeddings of tracklets."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_embeddings, describe, fail, shown
from clipreid_kit.metrics._engine.id_columns import Ids, id_array

IntArray = npt.NDArray[np.int64]
Pool = Callable[[Tensor, Tensor], Tensor]

_OWNER = "pool_tracklets"
_FRAMES_AT_ONCE = 8192


class PooledTracklets(NamedTuple):
    """Output of :func:`pool_tracklets`.

    Attributes:
        embeddings: Embedding of each tracklet (M, D), in the order in which they first occur.
        rows: The first row of each tracklet (M,), int64, for its other columns: ``ids[rows]``.
    """

    embeddings: Tensor
    rows: IntArray


@torch.no_grad()
def pool_tracklets(
    embeddings: Float[Tensor, "n d"] | Float[np.ndarray, "n d"],
    tracklets: Ids,
    pool: Pool | None = None,
) -> PooledTracklets:
    """Pool the embeddings of each tracklet's frames to one.

    Use it before any evaluation, index or search of tracklets, and of stills of which several show
    one person; :func:`group_stills` names those.

    Args:
        embeddings: Embedding of each frame. The frames of a tracklet are in their order, but need
            not follow one another. Bring them to length 1 first if all are to count alike.
        tracklets: Tracklet of each row: integers or names.
        pool: Function of frames (n, T, D) and their mask (n, T), which is true for all but padding,
            to (n, D): such as a trained :class:`FrameAttention`, or ``ClipBaseline.pool_frames``.
            ``None`` takes the mean.

    Returns:
        Embeddings (M, D) on the device of the given ones, in their precision, and the first row of
        each tracklet. No rows give none. The mean is summed in float64, in the order of the rows.

    Raises:
        ValueError: If there is not one tracklet for each embedding, or ``pool`` returns anything
            but a row for each tracklet.

    Example:
        >>> frames = torch.tensor([[1.0, 0.0], [4.0, 4.0], [0.0, 1.0]])
        >>> pooled = pool_tracklets(frames, ["b", "a", "b"])
        >>> pooled.embeddings, pooled.rows
        (tensor([[0.5000, 0.5000],
                [4.0000, 4.0000]]), array([0, 1]))
    """
    frames = embeddings
    if isinstance(frames, np.ndarray):
        frames = torch.tensor(frames, device="cpu")
    check_embeddings(_OWNER, "embeddings", frames)
    number, first = _numbered(id_array(_OWNER, "tracklets", tracklets, len(frames)))
    if not len(frames):
        return PooledTracklets(frames, first)

    pooled = _means(frames, number) if pool is None else _padded(frames, number, pool)
    return PooledTracklets(pooled, first)


def one_of_each(owner: str, name: str, values: Ids, tracklets: Ids) -> npt.NDArray[Any]:
    """Return the one value of a column that all rows of each tracklet have.

    Args:
        owner: Name for error texts.
        name: Name of the column.
        values: The value of each row.
        tracklets: Tracklet of each row.

    Raises:
        ValueError: If a tracklet has two values.
    """
    tracklet_of_row = id_array(owner, "tracklets", tracklets, len(values))
    value_of_row = id_array(owner, name, values, len(tracklet_of_row))
    number_of_row, first_row = _numbered(tracklet_of_row)

    value_of_tracklet = value_of_row[first_row]
    expected_of_row = value_of_tracklet[number_of_row]
    differing_rows = np.flatnonzero(value_of_row != expected_of_row)
    if len(differing_rows):
        row = int(differing_rows[0])
        tracklet, expected, value = (
            shown(column[row].item()) for column in (tracklet_of_row, expected_of_row, value_of_row)
        )
        raise ValueError(
            f"{owner}: tracklet {tracklet} has two {name}, {expected} and {value} in row {row}. "
            "Number tracklets through all rows of a side."
        )

    return value_of_tracklet


def _numbered(names: npt.NDArray[np.generic]) -> tuple[IntArray, IntArray]:
    """Number of each row's tracklet in the order of first occurrence, and first row of each."""
    _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[inverse.reshape(-1)], first[order]


def _means(frames: Tensor, number: IntArray) -> Tensor:
    """Mean of the rows of each tracklet."""
    rows = frames.cpu().double()
    tracklet = torch.from_numpy(number)
    count = torch.bincount(tracklet)
    total = torch.zeros(len(count), rows.shape[1], dtype=torch.float64, device="cpu")
    total.index_add_(0, tracklet, rows)
    return (total / count[:, None]).to(frames.device, frames.dtype)


def _padded(frames: Tensor, number: IntArray, pool: Pool) -> Tensor:
    """Pool tracklets of similar length together, with padding."""
    order = torch.from_numpy(np.argsort(number, kind="stable")).to(frames.device)
    count = np.bincount(number)
    first = np.cumsum(count) - count
    by_length = np.argsort(count, kind="stable")

    pooled: Tensor | None = None
    for batch in _batches(by_length, count):
        length = torch.from_numpy(count[batch]).to(frames.device)
        place = torch.arange(int(length.max()), device=frames.device)
        is_frame = place < length[:, None]  # (tracklets, places); False in the padding

        row = torch.from_numpy(first[batch]).to(frames.device)[:, None] + place
        padded = frames[order[row.clamp(max=len(frames) - 1)]]
        padded = torch.where(is_frame[:, :, None], padded, 0)

        found = pool(padded, is_frame)
        if found.ndim != 2 or len(found) != len(batch):
            raise fail(_OWNER, f"{len(batch)} rows (n, D) of pool", describe(found))
        if pooled is None:
            pooled = found.new_empty((len(count), found.shape[1]))
        pooled[torch.from_numpy(batch).to(found.device)] = found

    return frames if pooled is None else pooled


def _batches(by_length: IntArray, count: IntArray) -> list[IntArray]:
    """Tracklets in the order of their lengths, so many that padded frames fit the memory."""
    batches = []
    begin = 0
    for end in range(1, len(by_length) + 1):
        is_last = end == len(by_length)
        if is_last or (end + 1 - begin) * count[by_length[end]] > _FRAMES_AT_ONCE:
            batches.append(by_length[begin:end])
            begin = end
    return batches

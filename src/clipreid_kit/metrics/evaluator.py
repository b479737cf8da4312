"""Re-identification metrics of batches, on one process or on several that each hold a part."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_dense, check_embeddings, fail
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.distributed import world_size
from clipreid_kit.metrics._engine.id_columns import Ids, check_junk_ids, id_array
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics._engine.sharded_matches import Shard, find_sharded_matches, join_shards
from clipreid_kit.metrics.reid import check_distance, check_options, evaluate_reid
from clipreid_kit.metrics.results._from_match_counts import reid_result_from_matches
from clipreid_kit.metrics.results.reid_result import ReidResult

_OWNER = "ReidEvaluator"


class ReidEvaluator:
    """Evaluate embeddings batch by batch: ``update`` with each, ``compute`` at the end.

    The result is that of :func:`evaluate_reid` with all batches concatenated, bit for bit. With
    ``distributed=True`` it is, on every rank, that of one process with the batches of all ranks
    concatenated in rank order; each rank keeps its own gallery rows and receives the queries of the
    other ranks a few at a time. It does not matter which rank encodes which images, as long as none
    is passed twice. Note that a ``DistributedSampler`` repeats images to fill its last round.

    Args:
        distance: See :func:`evaluate_reid`.
        ties: See :func:`evaluate_reid`.
        max_rank: See :func:`evaluate_reid`.
        junk_ids: See :func:`evaluate_reid`.
        leave_one_out: Whether every query ranks all other queries, without a gallery.
        distributed: Whether the batches of all ranks make one set. ``compute`` then has to be
            called on every rank.

    Example:
        >>> import torch
        >>> evaluator = ReidEvaluator()
        >>> evaluator.update(torch.eye(2), [7, 8], split="query")
        >>> for row, identity in zip(torch.eye(2), [7, 8]):
        ...     evaluator.update(row[None], [identity], split="gallery")
        >>> evaluator.compute().rank(1)
        1.0
    """

    def __init__(
        self,
        *,
        distance: Distance = "cosine",
        ties: Ties = "pessimistic",
        max_rank: int = 50,
        junk_ids: Sequence[int] | Sequence[str] = (),
        leave_one_out: bool = False,
        distributed: bool = False,
    ) -> None:
        check_distance(_OWNER, distance)
        check_options(_OWNER, ties, max_rank)
        check_junk_ids(_OWNER, junk_ids)
        self.distance: Distance = distance
        self.ties: Ties = ties
        self.max_rank = max_rank
        self.junk_ids = copy.deepcopy(junk_ids)
        self.leave_one_out = leave_one_out
        self.distributed = distributed
        self.reset()

    def __repr__(self) -> str:
        """Return sizes and options on one line."""
        num_rows = {
            split: sum(len(batch.ids) for batch in batches)
            for split, batches in self._batches.items()
        }
        options = (
            f"num_queries={num_rows['query']}, num_gallery={num_rows['gallery']}, "
            f"distance={self.distance!r}, ties={self.ties!r}, max_rank={self.max_rank}"
        )
        if len(self.junk_ids):
            options += f", junk_ids={self.junk_ids}"
        if self.leave_one_out:
            options += ", leave_one_out=True"
        if self.distributed:
            options += ", distributed=True"
        return f"ReidEvaluator({options})"

    def reset(self) -> None:
        """Discard all batches."""
        self._batches: dict[str, list[Shard]] = {"query": [], "gallery": []}

    def update(
        self,
        embeddings: Float[Tensor, "n d"],
        ids: Ids,
        cameras: Ids | None = None,
        *,
        split: Literal["query", "gallery"],
        exclude: Sequence[Ids] = (),
    ) -> None:
        """Add a batch. It is copied, and stays on its device.

        Args:
            embeddings: (N, D), N >= 0.
            ids: Identity of each row.
            cameras: Camera of each row; for all batches or for none.
            split: ``"query"`` or ``"gallery"``.
            exclude: For each further rule, the value of each row (see :func:`evaluate_reid`).

        Raises:
            ValueError: If shapes or kinds disagree, or a gallery is passed in leave-one-out.
        """
        check_choice(_OWNER, "split", split, ("query", "gallery"))
        if split == "gallery" and self.leave_one_out:
            raise ValueError(
                f"{_OWNER}: there is no gallery with leave_one_out=True; "
                'pass all rows with split="query".'
            )
        check_embeddings(_OWNER, "embeddings", embeddings)
        check_dense(_OWNER, "embeddings", embeddings)

        count = embeddings.shape[0]
        batch = Shard(
            embeddings.detach().clone(),
            _read_column("ids", ids, count),
            None if cameras is None else _read_column("cameras", cameras, count),
            tuple(_read_column("values of exclude", values, count) for values in exclude),
        )
        if count == 0:
            return

        batches = self._batches[split]
        if batches and batch.kind() != batches[0].kind():
            got = f"{', '.join(batch.kind())} after {', '.join(batches[0].kind())}"
            raise fail(_OWNER, f'all batches of split="{split}" alike', got)
        batches.append(batch)

    def compute(self) -> ReidResult:
        """Evaluate all batches.

        Raises:
            ValueError: As :func:`evaluate_reid`; on every rank, even if only one has the reason.
        """
        query = join_shards(self._batches["query"])
        gallery = None if self.leave_one_out else join_shards(self._batches["gallery"])
        if self.distributed and world_size() > 1:
            options = (self.ties, self.max_rank)
            matches, identities = find_sharded_matches(
                _OWNER, query, gallery, self.junk_ids, self.distance, options
            )
            return reid_result_from_matches(_OWNER, matches, identities, self.ties, self.max_rank)

        _check_splits(query, gallery)
        return evaluate_reid(
            query.embeddings,
            None if gallery is None else gallery.embeddings,
            query_ids=query.ids,
            gallery_ids=None if gallery is None else gallery.ids,
            query_cameras=query.cameras,
            gallery_cameras=None if gallery is None else gallery.cameras,
            exclude=_pair_columns(query, gallery),
            junk_ids=self.junk_ids,
            distance=self.distance,
            ties=self.ties,
            max_rank=self.max_rank,
        )


def _check_splits(query: Shard, gallery: Shard | None) -> None:
    """Require batches of both splits, with the same columns."""
    for split, shard in (("query", query), ("gallery", gallery)):
        if shard is not None and len(shard.ids) == 0:
            raise ValueError(
                f'{_OWNER}: there is no batch of split="{split}"; call update before compute.'
            )
    if gallery is None:
        return

    has_same_cameras = (query.cameras is None) == (gallery.cameras is None)
    if not has_same_cameras or len(query.exclude) != len(gallery.exclude):
        raise ValueError(
            f"{_OWNER}: cameras and values of exclude differ between the splits; "
            "pass them for both or for neither."
        )


def _pair_columns(query: Shard, gallery: Shard | None) -> list[tuple[Ids, Ids | None]]:
    """Return the values of both sides for each further rule; in leave-one-out the query's alone."""
    if gallery is None:
        return [(values, None) for values in query.exclude]
    return list(zip(query.exclude, gallery.exclude, strict=True))


def _read_column(name: str, values: Ids, count: int) -> npt.NDArray[Any]:
    """Check a column of a batch; unsigned integers become int64 where they fit.

    With uint64 in one batch and int64 in another, they would meet in floats.
    """
    array: npt.NDArray[Any] = id_array(_OWNER, name, values, count)
    if array.dtype == np.uint64 and (array <= np.iinfo(np.int64).max).all():
        return array.astype(np.int64)

    # A copy: the caller may fill the same buffer with the next batch.
    return array.copy()

"""Evaluation of batches as they come, on one process or on several that hold parts of the gallery."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_dense, check_embeddings, fail
from clipreid_kit.distributed import world_size
from clipreid_kit.metrics._engine.exact_similarity import Distance
from clipreid_kit.metrics._engine.identity_matches import Ids, check_junk, flat
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics._engine.sharded_evaluation import Shard, evaluate_shards, joined
from clipreid_kit.metrics.reid import check_options, evaluate_reid
from clipreid_kit.metrics.results.reid_result import ReidResult

_OWNER = "ReidEvaluator"


class ReidEvaluator:
    """Evaluate features that come in batches: ``update`` with each, ``compute`` at the end.

    The result is that of :func:`evaluate_reid` with all batches joined, bit for bit. With ``distributed=True`` it is
    that of one process with the batches of all ranks joined in rank order, on every rank; each rank keeps the gallery
    rows that it was given, and sees the queries of the others a few at a time. So it does not matter who encodes what,
    as long as nothing is given twice: a ``DistributedSampler`` that fills up its last round by repeating images would
    do that.

    Args:
        distance: As for :func:`evaluate_reid`.
        ties: As for :func:`evaluate_reid`.
        max_rank: As for :func:`evaluate_reid`.
        junk_ids: As for :func:`evaluate_reid`.
        leave_one_out: Every query ranks all other queries; there is no gallery.
        distributed: Whether the batches of all ranks make one set. ``compute`` then has to be called on every rank.

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
        check_options(_OWNER, distance, ties, max_rank)
        check_junk(_OWNER, junk_ids)
        self.distance: Distance = distance
        self.ties: Ties = ties
        self.max_rank, self.junk_ids = max_rank, junk_ids
        self.leave_one_out, self.distributed = leave_one_out, distributed
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
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
        """Take a batch. It is copied, and stays on its device.

        Args:
            embeddings: (N, D), N >= 0.
            ids: Identity of each row.
            cameras: Camera of each row; for all batches or for none.
            split: ``"query"`` or ``"gallery"``.
            exclude: For each further rule, the value of each row (see :func:`evaluate_reid`).

        Raises:
            ValueError: If shapes or kinds disagree, or a gallery is given for leave-one-out.
        """
        check_choice(_OWNER, "split", split, ("query", "gallery"))
        if split == "gallery" and self.leave_one_out:
            raise fail(_OWNER, 'split="query" only, as leave_one_out=True', 'split="gallery"')
        check_embeddings(_OWNER, "embeddings", embeddings)
        check_dense(_OWNER, "embeddings", embeddings)
        count = embeddings.shape[0]
        batch = Shard(
            embeddings.detach().clone(),
            _signed(flat(_OWNER, "ids", ids, count)),
            None if cameras is None else _signed(flat(_OWNER, "cameras", cameras, count)),
            tuple(_signed(flat(_OWNER, "values of exclude", values, count)) for values in exclude),
        )
        if count == 0:
            return
        others = self._batches[split]
        if others and batch.kind() != others[0].kind():
            got = f"{', '.join(batch.kind())} after {', '.join(others[0].kind())}"
            raise fail(_OWNER, f'all batches of split="{split}" alike', got)
        others.append(batch)

    def compute(self) -> ReidResult:
        """Evaluate all that came.

        Raises:
            ValueError: As :func:`evaluate_reid`; on every rank, if the reason is found on one.
        """
        query = joined(self._batches["query"])
        gallery = query if self.leave_one_out else joined(self._batches["gallery"])
        if self.distributed and world_size() > 1:
            shards = query, None if self.leave_one_out else gallery
            return evaluate_shards(shards, self.junk_ids, self.distance, self.ties, self.max_rank)
        for split, side in (("query", query), ("gallery", gallery)):
            if len(side.ids) == 0:
                raise fail(
                    _OWNER, f'at least one batch of split="{split}"', "none", "Was update called?"
                )
        if (query.cameras is None) != (gallery.cameras is None) or len(query.exclude) != len(
            gallery.exclude
        ):
            raise fail(
                _OWNER,
                "cameras and values of exclude for both splits or for neither",
                "one split with them",
            )
        alone = self.leave_one_out
        return evaluate_reid(
            query.embeddings,
            None if alone else gallery.embeddings,
            query_ids=query.ids,
            gallery_ids=None if alone else gallery.ids,
            query_cameras=query.cameras,
            gallery_cameras=None if alone else gallery.cameras,
            exclude=list(zip(query.exclude, gallery.exclude, strict=True)),
            junk_ids=self.junk_ids,
            distance=self.distance,
            ties=self.ties,
            max_rank=self.max_rank,
        )


def _signed(ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Ids as int64 where they fit: with uint64 in one batch and int64 in another they would meet in floats."""
    fits = ids.dtype == np.uint64 and (ids <= np.iinfo(np.int64).max).all()
    return ids.astype(np.int64) if fits else ids

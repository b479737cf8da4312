"""Parts of this library behind the interfaces of other projects, to be copied into their loops.

The evaluators and ``evaluate_rank`` take and return what those of CLIP-ReID, TransReID, fast-reid
and torchreid do, so that a loop there changes by one import. Rankings are exact, and a tie counts
against the model; see docs/coming_from.md for what that changes.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from clipreid_kit import (
    KReciprocalReranker,
    ReidEvaluator,
    ReidResult,
    evaluate_reid,
    evaluate_reid_similarity,
)
from clipreid_kit.distributed import gather

Curve = npt.NDArray[np.float64]


class R1mAPEval:
    """``R1_mAP_eval`` of CLIP-ReID and TransReID: the first ``num_query`` rows are the queries.

    Args:
        num_query: Number of queries; all later rows are the gallery.
        max_rank: Length of the CMC curve.
        feat_norm: Whether features are normalised; also ``"yes"`` or ``"no"``, as in the
            configurations there, where ``"no"`` has no effect.
        reranking: Whether to re-rank, by k1 = 50, k2 = 15 and lambda = 0.3 as there.
    """

    def __init__(
        self,
        num_query: int,
        max_rank: int = 50,
        feat_norm: bool | str = True,
        reranking: bool = False,
    ) -> None:
        self.num_query = num_query
        self.max_rank = max_rank
        self.distance: Any = "cosine" if feat_norm in (True, "yes") else "euclidean"
        self.reranking = reranking
        self.reset()

    def reset(self) -> None:
        """Discard all batches."""
        self.feats: list[Tensor] = []
        self.pids: list[Any] = []
        self.camids: list[Any] = []

    def update(self, output: Sequence[Any]) -> None:
        """Add a batch of features, identities and cameras; anything behind them is ignored."""
        feat, pid, camid = output[:3]
        self.feats.append(feat.cpu())
        self.pids.extend(np.asarray(pid))
        self.camids.extend(np.asarray(camid))

    def compute(self) -> tuple[Curve, float, None, list[Any], list[Any], Tensor, Tensor]:
        """CMC, mAP, no matrix of distances, identities, cameras, and both sets of features."""
        features = torch.cat(self.feats)
        queries, gallery = features[: self.num_query], features[self.num_query :]
        result = self._evaluate(queries, gallery)

        cmc = result.cmc[: len(gallery)]
        return cmc, result.mean_ap, None, self.pids, self.camids, queries, gallery

    def _evaluate(self, queries: Tensor, gallery: Tensor) -> ReidResult:
        pids, camids = np.asarray(self.pids), np.asarray(self.camids)
        sides: dict[str, Any] = {
            "query_ids": pids[: self.num_query],
            "gallery_ids": pids[self.num_query :],
            "query_cameras": camids[: self.num_query],
            "gallery_cameras": camids[self.num_query :],
            "max_rank": self.max_rank,
        }
        if not self.reranking:
            return evaluate_reid(queries, gallery, distance=self.distance, **sides)

        reranker = KReciprocalReranker(queries, gallery, k1=50, k2=15, distance=self.distance)
        return evaluate_reid_similarity(reranker, **sides)


class FastReidEvaluator:
    """fast-reid's ``ReidEvaluator``: ``reset``, ``process`` each batch, ``evaluate``.

    Args:
        cfg: fast-reid's configuration, of which ``TEST.METRIC`` is read.
        num_query: Number of queries; all later rows are the gallery.
        output_dir: Not used, as there.
    """

    def __init__(self, cfg: Any, num_query: int, output_dir: str | None = None) -> None:  # noqa: ANN401
        self.num_query = num_query
        self.output_dir = output_dir
        self.evaluator = ReidEvaluator(distance=cfg.TEST.METRIC)
        self.reset()

    def reset(self) -> None:
        """Discard all batches."""
        self.evaluator.reset()
        self.num_rows = 0

    def process(self, inputs: Mapping[str, Tensor], outputs: Tensor) -> None:
        """Add a batch: identities and cameras of the inputs, and features."""
        pids, camids = inputs["targets"], inputs["camids"]
        num_queries = min(max(self.num_query - self.num_rows, 0), len(outputs))
        self.num_rows += len(outputs)

        for rows, split in ((slice(num_queries), "query"), (slice(num_queries, None), "gallery")):
            self.evaluator.update(outputs[rows], pids[rows], camids[rows], split=split)  # type: ignore[arg-type]

    def evaluate(self) -> "OrderedDict[str, float]":
        """Rank-1, Rank-5, Rank-10, mAP, mINP and their metric, in percent."""
        result = self.evaluator.compute()
        rates = {f"Rank-{k}": result.rank(k) for k in (1, 5, 10)}
        rates |= {"mAP": result.mean_ap, "mINP": result.mean_inp}
        rates["metric"] = (result.mean_ap + result.rank(1)) / 2
        return OrderedDict((name, 100 * rate) for name, rate in rates.items())


def evaluate_rank(
    distmat: Tensor | npt.NDArray[Any],
    q_pids: Any,  # noqa: ANN401 (any list of identities)
    g_pids: Any,  # noqa: ANN401
    q_camids: Any,  # noqa: ANN401
    g_camids: Any,  # noqa: ANN401
    max_rank: int = 50,
    use_metric_cuhk03: bool = False,
    use_cython: bool = True,  # noqa: ARG001 (as there)
) -> tuple[Curve, float]:
    """CMC and mAP of a matrix of distances, as torchreid's ``evaluate_rank``.

    Raises:
        ValueError: For ``use_metric_cuhk03``, whose gallery is drawn at random there.
    """
    if use_metric_cuhk03:
        raise ValueError(
            "evaluate_rank: use_metric_cuhk03 needs embeddings here; "
            "pass them to clipreid_kit.metrics.CUHK03Protocol."
        )

    result = evaluate_reid_similarity(
        distmat,
        query_ids=q_pids,
        gallery_ids=g_pids,
        query_cameras=q_camids,
        gallery_cameras=g_camids,
        nearer="smaller",
        max_rank=max_rank,
    )
    return result.cmc[: distmat.shape[1]], result.mean_ap


class MinedLoss(nn.Module):
    """A loss of pytorch-metric-learning and a miner, on the rows of all processes.

    It is a term for :class:`clipreid_kit.WeightedSum` like any other loss.

    Args:
        loss: A loss there, called with embeddings, labels and what the miner returns.
        miner: A miner there. ``None`` for all pairs or triplets.
    """

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of embeddings (N, D) and labels (N,)."""
        embeddings, labels = gather(embeddings), gather(labels)
        mined = None if self.miner is None else self.miner(embeddings, labels)
        loss: Tensor = self.loss(embeddings, labels, mined)
        return loss


class SentenceTransformersLoss(nn.Module):
    """A loss of this library for the trainer of sentence-transformers.

    With one column of inputs, the loss is called with embeddings and labels (``SupConLoss``,
    ``TripletLoss``); with two, with the embeddings of both (``InfoNCELoss``, ``SigLIPLoss``).

    Args:
        model: The SentenceTransformer.
        loss: A loss of this library.
    """

    def __init__(self, model: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Scalar loss of the features of each column, and of the labels of the rows."""
        columns = [self.model(features)["sentence_embedding"] for features in sentence_features]
        given = (columns[0], labels) if len(columns) == 1 else tuple(columns)
        loss: Tensor = self.loss(*given)
        return loss

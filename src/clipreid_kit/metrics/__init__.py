"""Evaluation: features in, numbers out; and what is done with features before that."""

from clipreid_kit.metrics.reid import evaluate_reid
from clipreid_kit.metrics.rerank import KReciprocalReranker, k_reciprocal_rerank
from clipreid_kit.metrics.result import ReidResult

__all__ = [
    "KReciprocalReranker",
    "ReidResult",
    "evaluate_reid",
    "k_reciprocal_rerank",
]

"""Evaluation: features in, numbers out; and what is done with features before that."""

from clipreid_kit.metrics.expansion import database_augmentation, query_expansion
from clipreid_kit.metrics.reid import evaluate_reid
from clipreid_kit.metrics.rerank import KReciprocalReranker, k_reciprocal_rerank
from clipreid_kit.metrics.result import ReidResult
from clipreid_kit.metrics.retrieval import evaluate_retrieval
from clipreid_kit.metrics.retrieval_result import RetrievalResult

__all__ = [
    "KReciprocalReranker",
    "ReidResult",
    "RetrievalResult",
    "database_augmentation",
    "evaluate_reid",
    "evaluate_retrieval",
    "k_reciprocal_rerank",
    "query_expansion",
]

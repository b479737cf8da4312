"""Evaluation: features in, numbers out; and what is done with features before that."""

from clipreid_kit.metrics.bootstrap import ConfidenceInterval, bootstrap_interval
from clipreid_kit.metrics.collapse import (
    PairCosines,
    collapse_alarms,
    degenerate_losses,
    pair_cosines,
)
from clipreid_kit.metrics.evaluator import ReidEvaluator
from clipreid_kit.metrics.expansion import database_augmentation, query_expansion
from clipreid_kit.metrics.open_set import OpenSetResult, evaluate_open_set
from clipreid_kit.metrics.protocols import InShopProtocol, LeaveOneOutProtocol, Market1501Protocol
from clipreid_kit.metrics.random_galleries import GallerySplit, HandsProtocol, VehicleIDProtocol
from clipreid_kit.metrics.reid import evaluate_reid
from clipreid_kit.metrics.rerank import KReciprocalReranker, k_reciprocal_rerank
from clipreid_kit.metrics.result import ReidResult
from clipreid_kit.metrics.retrieval import evaluate_retrieval
from clipreid_kit.metrics.retrieval_result import RetrievalResult
from clipreid_kit.metrics.single_shot import CUHK03Protocol
from clipreid_kit.metrics.split_results import SplitResults
from clipreid_kit.metrics.verification import VerificationResult, evaluate_verification

__all__ = [
    "CUHK03Protocol",
    "ConfidenceInterval",
    "GallerySplit",
    "HandsProtocol",
    "InShopProtocol",
    "KReciprocalReranker",
    "LeaveOneOutProtocol",
    "Market1501Protocol",
    "OpenSetResult",
    "PairCosines",
    "ReidEvaluator",
    "ReidResult",
    "RetrievalResult",
    "SplitResults",
    "VehicleIDProtocol",
    "VerificationResult",
    "bootstrap_interval",
    "collapse_alarms",
    "database_augmentation",
    "degenerate_losses",
    "evaluate_open_set",
    "evaluate_reid",
    "evaluate_retrieval",
    "evaluate_verification",
    "k_reciprocal_rerank",
    "pair_cosines",
    "query_expansion",
]

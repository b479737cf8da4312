"""Evaluation: features in, numbers out."""

from clipreid_kit.metrics.evaluator import ReidEvaluator
from clipreid_kit.metrics.reid import evaluate_reid
from clipreid_kit.metrics.result import ReidResult

__all__ = [
    "ReidEvaluator",
    "ReidResult",
    "evaluate_reid",
]

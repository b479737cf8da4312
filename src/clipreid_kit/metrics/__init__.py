"""Evaluation of embeddings: metrics, protocols, re-ranking, and checks for collapse."""

from clipreid_kit.metrics.collapse import (
    PairCosines,
    chance_level_losses,
    check_collapse,
    pair_cosines,
)
from clipreid_kit.metrics.evaluator import ReidEvaluator
from clipreid_kit.metrics.open_set import OpenSetResult, evaluate_open_set
from clipreid_kit.metrics.protocols.cross_modality import CrossModalityProtocol
from clipreid_kit.metrics.protocols.fixed_gallery import (
    InShopProtocol,
    LeaveOneOutProtocol,
    Market1501Protocol,
)
from clipreid_kit.metrics.protocols.llcm import LLCMProtocol
from clipreid_kit.metrics.protocols.random_gallery import (
    GallerySplit,
    HandsProtocol,
    VehicleIDProtocol,
)
from clipreid_kit.metrics.protocols.single_shot import CUHK03Protocol
from clipreid_kit.metrics.protocols.sysu_mm01 import SysuMM01Protocol
from clipreid_kit.metrics.protocols.text_to_person import TextToPersonProtocol
from clipreid_kit.metrics.protocols.tracklets import TrackletProtocol
from clipreid_kit.metrics.reid import evaluate_reid, evaluate_reid_similarity
from clipreid_kit.metrics.reranking.jaccard import JaccardDistances, JaccardPairs
from clipreid_kit.metrics.reranking.k_reciprocal import KReciprocalReranker, k_reciprocal_rerank
from clipreid_kit.metrics.reranking.query_expansion import database_augmentation, query_expansion
from clipreid_kit.metrics.results.bootstrap import ConfidenceInterval, bootstrap_interval
from clipreid_kit.metrics.results.comparison import (
    Comparison,
    PairedDifference,
    SeedMean,
    compare_results,
)
from clipreid_kit.metrics.results.holm import holm_correction
from clipreid_kit.metrics.results.permutation_test import PermutationTest, paired_permutation_test
from clipreid_kit.metrics.results.reid_result import ReidResult
from clipreid_kit.metrics.results.retrieval_result import RetrievalResult
from clipreid_kit.metrics.results.split_results import SplitResults
from clipreid_kit.metrics.results.trec_files import (
    RankedList,
    read_trec_qrels,
    read_trec_run,
    write_trec_qrels,
    write_trec_run,
)
from clipreid_kit.metrics.retrieval import evaluate_retrieval, evaluate_retrieval_similarity
from clipreid_kit.metrics.tracklet_pooling import PooledTracklets, pool_tracklets
from clipreid_kit.metrics.trec_export import export_trec
from clipreid_kit.metrics.verification import VerificationResult, evaluate_verification

__all__ = [
    "CUHK03Protocol",
    "Comparison",
    "ConfidenceInterval",
    "CrossModalityProtocol",
    "GallerySplit",
    "HandsProtocol",
    "InShopProtocol",
    "JaccardDistances",
    "JaccardPairs",
    "KReciprocalReranker",
    "LLCMProtocol",
    "LeaveOneOutProtocol",
    "Market1501Protocol",
    "OpenSetResult",
    "PairCosines",
    "PairedDifference",
    "PermutationTest",
    "PooledTracklets",
    "RankedList",
    "ReidEvaluator",
    "ReidResult",
    "RetrievalResult",
    "SeedMean",
    "SplitResults",
    "SysuMM01Protocol",
    "TextToPersonProtocol",
    "TrackletProtocol",
    "VehicleIDProtocol",
    "VerificationResult",
    "bootstrap_interval",
    "chance_level_losses",
    "check_collapse",
    "compare_results",
    "database_augmentation",
    "evaluate_open_set",
    "evaluate_reid",
    "evaluate_reid_similarity",
    "evaluate_retrieval",
    "evaluate_retrieval_similarity",
    "evaluate_verification",
    "export_trec",
    "holm_correction",
    "k_reciprocal_rerank",
    "pair_cosines",
    "paired_permutation_test",
    "pool_tracklets",
    "query_expansion",
    "read_trec_qrels",
    "read_trec_run",
    "write_trec_qrels",
    "write_trec_run",
]

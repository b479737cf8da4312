"""From a saved model to answers: encoders, and an index that is searched exactly."""

from clipreid_kit.retrieval.approximation_report import ApproximationReport
from clipreid_kit.retrieval.calibration.calibrate import calibrate
from clipreid_kit.retrieval.calibration.calibration import (
    Calibration,
    CameraPair,
    ReliabilityBin,
)
from clipreid_kit.retrieval.discovery.discover_identities import (
    DiscoveredIdentities,
    discover_identities,
)
from clipreid_kit.retrieval.discovery.discovery_scores import DiscoveryScores
from clipreid_kit.retrieval.discovery.pseudo_labels import PseudoLabels, pseudo_labels
from clipreid_kit.retrieval.duplicates import DuplicateGroup
from clipreid_kit.retrieval.encoding.embedding_files import write_embeddings
from clipreid_kit.retrieval.encoding.encoded_images import (
    EncodedImages,
    SkippedImage,
    WrittenEmbeddings,
)
from clipreid_kit.retrieval.encoding.encoder import Encoder
from clipreid_kit.retrieval.engines.index_info import IndexInfo
from clipreid_kit.retrieval.fusion.fused_index import FusedIndex
from clipreid_kit.retrieval.gallery_index import GalleryIndex
from clipreid_kit.retrieval.marks import Mark, read_marks, records_of_marks
from clipreid_kit.retrieval.neighbour_graph import NeighbourGraph
from clipreid_kit.retrieval.search_result import Hit, SearchResult
from clipreid_kit.retrieval.second_pass import Expand, Rerank
from clipreid_kit.retrieval.store.conditions import Between, Not

__all__ = [
    "ApproximationReport",
    "Between",
    "Calibration",
    "CameraPair",
    "DiscoveredIdentities",
    "DiscoveryScores",
    "DuplicateGroup",
    "EncodedImages",
    "Encoder",
    "Expand",
    "FusedIndex",
    "GalleryIndex",
    "Hit",
    "IndexInfo",
    "Mark",
    "NeighbourGraph",
    "Not",
    "PseudoLabels",
    "ReliabilityBin",
    "Rerank",
    "SearchResult",
    "SkippedImage",
    "WrittenEmbeddings",
    "calibrate",
    "discover_identities",
    "pseudo_labels",
    "read_marks",
    "records_of_marks",
    "write_embeddings",
]

"""From a saved model to answers: encoders, and an index that is searched exactly."""

from clipreid_kit.retrieval.calibration.calibrate import calibrate
from clipreid_kit.retrieval.calibration.calibration import Calibration, ReliabilityBin
from clipreid_kit.retrieval.encoding.embedding_files import write_embeddings
from clipreid_kit.retrieval.encoding.encoded_images import (
    EncodedImages,
    SkippedImage,
    WrittenEmbeddings,
)
from clipreid_kit.retrieval.encoding.encoder import Encoder
from clipreid_kit.retrieval.gallery_index import GalleryIndex, IndexInfo
from clipreid_kit.retrieval.marks import Mark, read_marks, records_of_marks
from clipreid_kit.retrieval.search_result import Hit, SearchResult
from clipreid_kit.retrieval.store.conditions import Between, Not

__all__ = [
    "Between",
    "Calibration",
    "EncodedImages",
    "Encoder",
    "GalleryIndex",
    "Hit",
    "IndexInfo",
    "Mark",
    "Not",
    "ReliabilityBin",
    "SearchResult",
    "SkippedImage",
    "WrittenEmbeddings",
    "calibrate",
    "read_marks",
    "records_of_marks",
    "write_embeddings",
]

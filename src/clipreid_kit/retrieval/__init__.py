"""From a saved model to answers: encoders, and an index that is searched exactly."""

from clipreid_kit.retrieval.encoding.embedding_files import write_embeddings
from clipreid_kit.retrieval.encoding.encoded_images import (
    EncodedImages,
    SkippedImage,
    WrittenEmbeddings,
)
from clipreid_kit.retrieval.encoding.encoder import Encoder
from clipreid_kit.retrieval.gallery_index import GalleryIndex, IndexInfo
from clipreid_kit.retrieval.search_result import Hit, SearchResult
from clipreid_kit.retrieval.store.conditions import Between, Not

__all__ = [
    "Between",
    "EncodedImages",
    "Encoder",
    "GalleryIndex",
    "Hit",
    "IndexInfo",
    "Not",
    "SearchResult",
    "SkippedImage",
    "WrittenEmbeddings",
    "write_embeddings",
]

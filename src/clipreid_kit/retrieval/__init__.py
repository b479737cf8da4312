"""Search a gallery of embeddings exactly: an index in a folder, with records and conditions."""

from clipreid_kit.retrieval.gallery_index import GalleryIndex, IndexInfo
from clipreid_kit.retrieval.search_result import Hit, SearchResult
from clipreid_kit.retrieval.store.conditions import Between, Not

__all__ = ["Between", "GalleryIndex", "Hit", "IndexInfo", "Not", "SearchResult"]

"""From embeddings and labels to counted matches, a part of the queries at a time."""

from collections.abc import Iterator

from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.count_nonmatches import count_nonmatches, tile_width
from clipreid_kit.metrics._engine.identity_matches import IdentityMatches
from clipreid_kit.metrics._engine.match_counts import MatchCounts
from clipreid_kit.metrics._engine.match_similarities import (
    identity_similarities,
    listed_similarities,
)
from clipreid_kit.metrics._engine.relevance_lists import RelevanceLists
from clipreid_kit.metrics._engine.saved_counts import SavedCounts

_STREAMED_QUERIES = 1 << 15  # queries that are read from a file at once
# Pairs that are held at once: so many for each gallery row are those of 256 queries with half of
# the gallery. With more, and larger arrays, a fifth of the time went into fresh memory.
_PAIRS_EACH, _MIN_PAIRS = 128, 1 << 20


def find_matches(
    queries: EmbeddingRows,
    gallery: EmbeddingRows,
    relevance: IdentityMatches | RelevanceLists,
    distance: Distance,
    saved: SavedCounts | None = None,
) -> Iterator[MatchCounts]:
    """Find the matches of all queries, and count the non-matches above and tied with them."""
    is_one_tile = tile_width(gallery) == len(gallery) and saved is None
    max_queries = _STREAMED_QUERIES if queries.streamed else len(queries)
    # a file is read once for each range, so its ranges are as large as may be
    max_pairs = max(_PAIRS_EACH * len(gallery), _MIN_PAIRS) if is_one_tile else None
    for start, stop in relevance.query_ranges(max_queries, max_pairs):
        part = queries.part(start, stop)
        pairs = relevance.pairs(start, stop)

        # a match in one tile is compared with non-matches in others: its similarity has to be known
        if is_one_tile:
            similarities = None
        elif isinstance(relevance, IdentityMatches):
            similarities = identity_similarities(
                part, gallery, start, stop, relevance, pairs, distance
            )
        else:
            similarities = listed_similarities(part, gallery, pairs, distance)

        matches = MatchCounts.from_pairs(pairs, similarities)
        if saved is not None:
            saved.count(part, gallery, pairs, relevance.junk_rows, matches, distance)
        elif len(matches.rows):
            count_nonmatches(part, gallery, pairs, relevance.junk_rows, matches, distance)
        yield matches

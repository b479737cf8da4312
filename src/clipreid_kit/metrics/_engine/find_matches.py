"""From rows and labels to counted matches, a part of the queries at a time."""

from collections.abc import Iterator

from clipreid_kit.metrics._engine.count_nonmatches import count_wrong, tile_width
from clipreid_kit.metrics._engine.embedding_rows import Rows
from clipreid_kit.metrics._engine.exact_similarity import Distance
from clipreid_kit.metrics._engine.identity_matches import Labels
from clipreid_kit.metrics._engine.match_counts import Matches
from clipreid_kit.metrics._engine.match_similarities import listed_scores, match_scores
from clipreid_kit.metrics._engine.relevance_lists import Lists

_QUERIES = 1 << 15  # that are read from a file at once


def find_matches(
    queries: Rows, gallery: Rows, labels: Labels | Lists, distance: Distance
) -> Iterator[Matches]:
    """Score the matches of all queries, and count the wrong items above them."""
    one_tile = tile_width(gallery) == len(gallery)
    for start, stop in labels.parts(_QUERIES if queries.streamed else len(queries)):
        part = queries.part(start, stop)
        pairs = labels.pairs(start, stop)
        scores = None
        if not one_tile and isinstance(labels, Labels):
            scores = match_scores(part, gallery, start, stop, labels, pairs, distance)
        elif not one_tile:
            scores = listed_scores(part, gallery, pairs, distance)
        matches = Matches.of(pairs, scores)
        if len(matches.rows):
            count_wrong(part, gallery, pairs, labels.ignored, matches, distance)
        yield matches

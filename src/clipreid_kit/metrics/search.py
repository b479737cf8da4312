"""From rows and labels to counted matches, a part of the queries at a time."""

from collections.abc import Iterator

from clipreid_kit.metrics.exact import Distance
from clipreid_kit.metrics.identities import Labels
from clipreid_kit.metrics.matches import Matches
from clipreid_kit.metrics.ranking import count_wrong, tile_width
from clipreid_kit.metrics.rows import Rows
from clipreid_kit.metrics.scores import match_scores


def find_matches(queries: Rows, gallery: Rows, labels: Labels, distance: Distance) -> Iterator[Matches]:
    """Score the matches of all queries, and count the wrong items above them."""
    for start, stop in labels.parts():
        part = queries.part(start, stop)
        pairs = labels.pairs(start, stop)
        one_tile = tile_width(gallery) == len(gallery)
        scores = None if one_tile else match_scores(part, gallery, start, stop, labels, pairs, distance)
        matches = Matches.of(pairs, scores)
        if len(matches.rows):
            count_wrong(part, gallery, pairs, labels.ignored, matches, distance)
        yield matches

"""Build a :class:`ReidResult` from counted matches."""

from collections.abc import Iterable

import numpy as np

from clipreid_kit.metrics._engine.identity_matches import IdentityMatches
from clipreid_kit.metrics._engine.match_counts import MatchCounts
from clipreid_kit.metrics._engine.ranks_to_measures import Ties, measure_queries
from clipreid_kit.metrics.results.reid_result import ReidResult


def reid_result_from_matches(
    owner: str,
    matches: Iterable[MatchCounts],
    identities: IdentityMatches,
    ties: Ties,
    max_rank: int,
) -> ReidResult:
    """Measure the queries of all parts, and join them to a result.

    Raises:
        ValueError: If no query has a match.
    """
    measures = []
    num_with_identity = 0
    for part in matches:
        measures.append(measure_queries(part, ties))
        num_with_identity += part.num_with_identity

    joined = (np.concatenate(arrays) for arrays in zip(*measures, strict=True))
    average_precision, inverse_negative_penalty, first_rank, num_positives = joined
    if not num_positives.any():
        raise _no_match_error(owner, identities, num_with_identity)

    return ReidResult(
        average_precision,
        inverse_negative_penalty,
        first_rank,
        num_positives,
        num_gallery=identities.num_gallery,
        max_rank=min(max_rank, identities.num_gallery),
        query_ids=identities.query_ids,
    )


def _no_match_error(owner: str, identities: IdentityMatches, num_with_identity: int) -> ValueError:
    """Describe why no query has a match: other identities, single images, or a rule."""
    num_queries = len(identities.query_codes)
    if num_with_identity == 0:
        num_query_identities = len(np.unique(identities.query_codes))
        found = (
            f"none of the {num_query_identities} query identities is among the "
            f"{identities.num_identities} of the gallery"
        )
        if len(identities.junk_rows):
            found += f", of which {len(identities.junk_rows)} rows are junk"
        return ValueError(
            f"{owner}: no query has a match: {found}. "
            "Check how the ids of both sides were made: they have to be numbered or named alike."
        )

    if not identities.rules:
        return ValueError(
            f"{owner}: no query has a match: each of the {num_queries} queries is the only one "
            "of its identity."
        )

    rules = " and the ".join(dict.fromkeys(identities.rules))
    if identities.num_cameras is not None:
        described = f"camera rule ({identities.num_cameras} different cameras in all)"
        rules = rules.replace("camera rule", described)
    return ValueError(
        f"{owner}: no query has a match: {num_with_identity} of {num_queries} queries have their "
        f"identity in the gallery, but the {rules} leaves every match out. If the cameras are "
        "unknown, or all have one number, omit query_cameras and gallery_cameras."
    )

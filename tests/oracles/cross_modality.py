"""Search across modalities by brute force; imports nothing of ours."""

from oracles import reid


def by_identities(kept, ties):
    """Rank of the first match in a list from which later images of an identity are struck.

    ``kept`` are triples (similarity, whether it is a match, identity).
    """
    nearest = {}
    for similarity, is_match, identity in kept:
        before = nearest.get(identity, (float("-inf"), is_match))
        nearest[identity] = max(before[0], similarity), is_match
    ranks = reid.ranks_of_matches(list(nearest.values()), ties)
    return ranks[0] if ranks else None


def of_query(row, identity, allowed, gallery_ids, ties, *, count_identities):
    """(AP, INP, first rank) of one query among allowed rows; None without a match."""
    kept = [(row[j], bool(gallery_ids[j] == identity), gallery_ids[j]) for j in allowed]
    ranks = reid.ranks_of_matches([(value, match) for value, match, _ in kept], ties)
    if not ranks:
        return None

    precision = [n / rank for n, rank in enumerate(ranks, start=1)]
    first = by_identities(kept, ties) if count_identities else ranks[0]
    return sum(precision) / len(ranks), len(ranks) / ranks[-1], first


def sysu_mm01(similarity, query_ids, gallery_ids, query_cameras, gallery_cameras, drawn, ties):
    """One trial: a query of camera 3 skips all drawn images of camera 2."""
    rows = []
    for i, identity in enumerate(query_ids):
        allowed = [j for j in drawn if not (query_cameras[i] == 3 and gallery_cameras[j] == 2)]
        rows.append(
            of_query(similarity[i], identity, allowed, gallery_ids, ties, count_identities=True)
        )
    return rows


def llcm(similarity, query_ids, gallery_ids, query_cameras, gallery_cameras, drawn, ties):
    """One trial: images of the query's identity and camera are struck."""
    rows = []
    for i, identity in enumerate(query_ids):
        own = [
            j
            for j in drawn
            if gallery_ids[j] == identity and gallery_cameras[j] == query_cameras[i]
        ]
        allowed = [j for j in drawn if j not in own]
        rows.append(
            of_query(similarity[i], identity, allowed, gallery_ids, ties, count_identities=True)
        )
    return rows


def across(similarity, query_ids, gallery_ids, query_values, gallery_values, same, ties):
    """Each query ranks rows of other values; or all rows but its matches of the same value."""
    rows = []
    for i, identity in enumerate(query_ids):
        allowed = [
            j
            for j in range(len(gallery_ids))
            if gallery_values[j] != query_values[i]
            or (same == "distractors" and gallery_ids[j] != identity)
        ]
        rows.append(
            of_query(similarity[i], identity, allowed, gallery_ids, ties, count_identities=False)
        )
    return rows

"""Hits in JSON's types: the one form of the command line and of the page."""

from typing import Any

from clipreid_kit.retrieval.search_result import Hit, SearchResult

_RECORD_FIELDS = ("path", "identity", "camera", "view", "caption", "split")


def hit_fields(rank: int, hit: Hit) -> dict[str, Any]:
    """Return a hit in JSON's types.

    Args:
        rank: Its place among the hits of its query, from 1.
        hit: The hit.

    Returns:
        ``rank``, ``key`` and ``similarity``; ``probability`` in an index with a calibration; and,
        in an index with records, ``path``, ``identity``, ``camera``, ``view``, ``caption``,
        ``split`` and ``extra``, and ``modality`` where the record has one.

    Example:
        >>> hit_fields(1, Hit(row=0, key=7, similarity=0.5, record=None, probability=0.25))
        {'rank': 1, 'key': 7, 'similarity': 0.5, 'probability': 0.25}
    """
    fields: dict[str, Any] = {"rank": rank, "key": hit.key, "similarity": hit.similarity}
    if hit.probability is not None:
        fields["probability"] = hit.probability
    if hit.record is None:
        return fields

    for name in _RECORD_FIELDS:
        fields[name] = getattr(hit.record, name)
    if hit.record.modality is not None:
        fields["modality"] = hit.record.modality
    fields["extra"] = dict(hit.record.extra)
    return fields


def answer_fields(result: SearchResult, query: int) -> dict[str, Any]:
    """Return the hits of a query in JSON's types.

    Args:
        result: What a search found.
        query: Number of the query.

    Returns:
        ``hits``, each as :func:`hit_fields` returns it; ``unknown`` before them in an index with a
        calibration.
    """
    fields: dict[str, Any] = {}
    if result.is_unknown is not None:
        fields["unknown"] = bool(result.is_unknown[query])
    fields["hits"] = [hit_fields(rank, hit) for rank, hit in enumerate(result[query], start=1)]
    return fields

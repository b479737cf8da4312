"""Taking splits out of a list of records, and checking them before training starts."""

from collections import Counter
from collections.abc import Iterable, Sequence

from clipreid_kit._checks import fail
from clipreid_kit.data.records import ImageRecord


def records_of(records: Iterable[ImageRecord], split: str) -> list[ImageRecord]:
    """Take the records of one split.

    Use it between a reader, which returns all splits in one list, and a data set.

    Args:
        records: Records of any splits.
        split: Name of the split, compared exactly.

    Returns:
        The split's records in their order; never empty.

    Raises:
        ValueError: If no record has this split; the text lists the splits there are, with their counts.

    Example:
        >>> records = [ImageRecord("a.jpg", 1, split="train"), ImageRecord("b.jpg", 2, split="query")]
        >>> [record.path for record in records_of(records, "query")]
        ['b.jpg']
    """
    everything = list(records)
    chosen = [record for record in everything if record.split == split]
    if not chosen:
        counts = Counter(
            "None" if record.split is None else repr(record.split) for record in everything
        )
        found = (
            ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
            or "no records at all"
        )
        raise fail(
            "records_of", f"records of split {split!r}", found, "Name a split that is there."
        )
    return chosen


def check_identities(train: Iterable[ImageRecord], test: Iterable[ImageRecord]) -> None:
    """Check that training and test share no identity, and that their identities can be compared.

    Use it for two lists from anywhere; :func:`check_splits` calls it for the splits of one list. A number and
    a string are different identities (``1`` and ``"1"``), so a mix of the two is an error, not a disjoint
    pair.

    Args:
        train: Records that are trained on.
        test: Records that are evaluated on, query and gallery together.

    Raises:
        ValueError: If an identity occurs in both (how many, and the first three), or some identities are
            integers and others strings.

    Example:
        >>> check_identities([ImageRecord("a.jpg", 1)], [ImageRecord("b.jpg", 1)])
        Traceback (most recent call last):
        ...
        ValueError: check_identities: expected no identity in both training and test, got 1 (1) in both. Move
            ...
    """
    trained = {record.identity for record in train}
    tested = {record.identity for record in test}
    kinds = {type(identity).__name__: identity for identity in trained | tested}
    if len(kinds) > 1:
        shown = " and ".join(f"{kind} ({kinds[kind]!r})" for kind in sorted(kinds))
        remedy = "Map all of them to one type: the integer 1 and the string '1' are different identities."
        raise fail(
            "check_identities", "all identities as integers or all as strings", shown, remedy
        )
    both = trained & tested
    if both:
        remedy = "Move each identity to one side: results on trained identities say little."
        raise fail(
            "check_identities",
            "no identity in both training and test",
            f"{_some(both)} in both",
            remedy,
        )


def check_splits(
    records: Iterable[ImageRecord],
    *,
    train: str | None = "train",
    query: str = "query",
    gallery: str = "gallery",
    min_images: int = 2,
) -> None:
    """Check that the splits of a data set make a sound re-identification experiment.

    Use it once before training, so that a mistake in the data costs seconds and not hours. It checks that

    - the splits are there,
    - training shares no identity with query and gallery, and all identities are of one type,
    - every training identity has ``min_images`` images, as a positive pair needs two,
    - every query identity occurs in the gallery,
    - cameras, where there are any, leave a match: not every query's matches are from its own camera, which
      the usual protocol does not count.

    Args:
        records: Records of all splits.
        train: Name of the training split; ``None`` for evaluation alone.
        query: Name of the query split.
        gallery: Name of the gallery split.
        min_images: Fewest images of a training identity, >= 1; 1 allows identities without a positive pair.

    Raises:
        ValueError: If a check fails; the text says how many identities are concerned and names the first
            three.

    Example:
        >>> splits = ("train", "train", "query", "gallery")
        >>> identities = ("rex", "rex", "tom", "tom")
        >>> check_splits([ImageRecord("x.jpg", i, split=s) for i, s in zip(identities, splits)])
    """
    everything = list(records)
    queries, gallery_records = records_of(everything, query), records_of(everything, gallery)
    trained = [] if train is None else records_of(everything, train)
    check_identities(trained, [*queries, *gallery_records])
    counts = Counter(record.identity for record in trained)
    few = {identity for identity, count in counts.items() if count < min_images}
    if few:
        remedy = "Leave them out, or pass min_images=1 if your sampler and loss allow identities without a pair."
        expected = f"{min_images} images or more of each identity in {train!r}"
        raise fail("check_splits", expected, f"{_some(few)} with fewer", remedy)
    missing = {record.identity for record in queries} - {
        record.identity for record in gallery_records
    }
    if missing:
        remedy = "Move these queries out, or add gallery images of them: a query without a match cannot be ranked."
        raise fail(
            "check_splits",
            f"every identity of {query!r} in {gallery!r}",
            f"{_some(missing)} not there",
            remedy,
        )
    _check_cameras(queries, gallery_records)


def _check_cameras(queries: Sequence[ImageRecord], gallery: Sequence[ImageRecord]) -> None:
    seen: dict[int | str, set[int | str | None]] = {}
    for record in gallery:
        seen.setdefault(record.identity, set()).add(record.camera)
    if any(record.camera is None or seen[record.identity] - {record.camera} for record in queries):
        return
    remedy = "If cameras are not known, leave them None: then every match counts."
    got = f"none for any of {len(queries)} queries"
    raise fail("check_splits", "a gallery match from another camera than the query's", got, remedy)


def _some(identities: set[int | str]) -> str:
    """Count and name the first three of identities of one type."""
    names = [
        repr(identity)
        for identity in sorted(identities, key=lambda i: (i, "") if isinstance(i, int) else (0, i))
    ]
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"

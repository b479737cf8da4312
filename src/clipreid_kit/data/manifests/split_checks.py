"""Select a split from a list of records, and check splits before training."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data.manifests._image_keys import sort_identities
from clipreid_kit.data.records import ImageRecord, check_records


def records_of(records: Iterable[ImageRecord], split: str) -> list[ImageRecord]:
    """Select the records of one split.

    Use it between a reader, which returns all splits in one list, and a data set.

    Args:
        records: Records of any splits.
        split: Name of the split, compared exactly.

    Returns:
        The split's records in their order; never empty.

    Raises:
        ValueError: If no record has this split; the error lists the splits that exist, with their
            counts.

    Example:
        >>> splits = {"a.jpg": "train", "b.jpg": "query"}
        >>> records = [ImageRecord(path, 1, split=split) for path, split in splits.items()]
        >>> [record.path for record in records_of(records, "query")]
        ['b.jpg']
    """
    everything = list(records)
    chosen = [record for record in everything if record.split == split]

    if not everything:
        raise ValueError(f"records_of: there are no records to take split {split!r} from.")
    if not chosen:
        counts = Counter(repr(record.split) for record in everything)
        found = ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
        raise ValueError(f"records_of: no record has split {split!r}; there are {found}.")

    return chosen


def check_identities(train: Iterable[ImageRecord], test: Iterable[ImageRecord]) -> None:
    """Check that training and test share no identity, and that their identities are comparable.

    Use it for two lists from anywhere; :func:`check_splits` calls it for the splits of one list. An
    integer and a string are different identities (``1`` and ``"1"``), so a mix of the two is an
    error and does not count as disjoint.

    Args:
        train: Records for training.
        test: Records for evaluation, query and gallery together.

    Raises:
        ValueError: If an identity occurs in both (the error counts them and names the first three),
            or some identities are integers and others strings.

    Example:
        >>> check_identities([ImageRecord("a.jpg", 1)], [ImageRecord("b.jpg", 1)])
        Traceback (most recent call last):
        ...
        ValueError: check_identities: training and test share 1 identity (1). Move each of them ...
    """
    owner = "check_identities"
    trained = {record.identity for record in train}
    tested = {record.identity for record in test}

    example_of = {type(identity).__name__: identity for identity in trained | tested}
    if len(example_of) > 1:
        kinds = [f"{kind} ({example_of[kind]!r})" for kind in sorted(example_of)]
        remedy = "Map all of them to one type: the integer 1 and the string '1' differ."
        got = " and ".join(kinds)
        raise fail(owner, "all identities as integers or all as strings", got, remedy)

    shared = trained & tested
    if shared:
        raise ValueError(
            f"{owner}: training and test share {_counted(shared)}. Move each of them to one side: "
            "results on trained identities say little about new ones."
        )


def check_splits(
    records: Iterable[ImageRecord],
    *,
    train: str | None = "train",
    query: str = "query",
    gallery: str = "gallery",
    min_images: int = 2,
) -> None:
    """Check that the splits of a data set form a sound re-identification experiment.

    Use it once before training, so that a mistake in the data costs seconds and not hours. It
    checks that

    - the splits exist,
    - training shares no identity with query and gallery, and all identities have one type,
    - every training identity has ``min_images`` images, as a positive pair needs two,
    - every query identity occurs in the gallery,
    - cameras, if there are any, leave a match: not all matches of all queries come from the query's
      own camera, which the usual protocol does not count.

    Args:
        records: Records of all splits.
        train: Name of the training split; ``None`` for evaluation only.
        query: Name of the query split.
        gallery: Name of the gallery split.
        min_images: Minimum number of images of a training identity, >= 1; 1 allows identities
            without a positive pair.

    Raises:
        ValueError: If a check fails; the error counts the identities concerned and names the first
            three.

    Example:
        >>> splits = ("train", "train", "query", "gallery")
        >>> identities = ("rex", "rex", "tom", "tom")
        >>> check_splits([ImageRecord("x.jpg", i, split=s) for i, s in zip(identities, splits)])
    """
    check_integer("check_splits", "min_images", min_images, 1)
    everything = list(records)
    check_records("check_splits", everything)
    query_records = records_of(everything, query)
    gallery_records = records_of(everything, gallery)

    if train is not None:
        train_records = records_of(everything, train)
        check_identities(train_records, [*query_records, *gallery_records])
        _check_train(train_records, train, min_images)
    else:
        check_identities([], [*query_records, *gallery_records])

    in_gallery = {record.identity for record in gallery_records}
    unmatched = {record.identity for record in query_records} - in_gallery
    if unmatched:
        raise ValueError(
            f"check_splits: split {query!r} has {_counted(unmatched)} without an image in "
            f"split {gallery!r}. Move these queries out, or add gallery images of them: a query "
            "without a match cannot be ranked."
        )

    _check_cameras(query_records, gallery_records)


def _check_train(records: Sequence[ImageRecord], split: str, min_images: int) -> None:
    counts = Counter(record.identity for record in records)
    too_few = [identity for identity, count in counts.items() if count < min_images]
    if too_few:
        raise ValueError(
            f"check_splits: split {split!r} has {_counted(too_few)} with fewer than "
            f"{min_images} images. Leave them out, or pass min_images=1 if your sampler and loss "
            "allow identities without a pair."
        )


def _check_cameras(queries: Sequence[ImageRecord], gallery: Sequence[ImageRecord]) -> None:
    """Raise ValueError if every match of every query comes from the query's own camera."""
    cameras_of: dict[int | str, set[int | str | None]] = {}
    for record in gallery:
        cameras_of.setdefault(record.identity, set()).add(record.camera)

    for query in queries:
        if query.camera is None or cameras_of[query.identity] - {query.camera}:
            return

    raise ValueError(
        f"check_splits: none of {len(queries)} queries has a gallery match from another camera. "
        "If cameras are unknown, leave them None: then every match counts."
    )


def _counted(identities: Collection[int | str]) -> str:
    """Count identities of one type, and name the first three."""
    names = [repr(identity) for identity in sort_identities(identities)]
    shown = ", ".join(names[:3])
    if len(names) > 3:
        shown += ", ..."

    noun = "identity" if len(names) == 1 else "identities"
    return f"{len(names)} {noun} ({shown})"

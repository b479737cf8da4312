"""Splits of people's own images: those that they name, or held out by seed."""

from collections.abc import Sequence
from dataclasses import replace

from clipreid_kit import data as kit
from clipreid_kit.data import ImageRecord, records_of
from examples.settings.own_images import OwnImages

Records = list[ImageRecord]

_TESTED = ("query", "gallery", "test")
_KNOWN = ("train", "val", "val_query", "val_gallery", *_TESTED)
_QUERY_IMAGES = 2  # of each test identity, where they are drawn


def split_own(
    data: OwnImages, records: Sequence[ImageRecord], seed: int, *, draw_queries: bool
) -> tuple[Records, dict[str, int]]:
    """Give records their splits, so that no identity is trained on and tested.

    Args:
        data: What to hold out, and which identity is that of unknown individuals.
        records: The images, all with a split or all without.
        seed: Seed of what is held out.
        draw_queries: Divide test images into ``query`` and ``gallery``, or leave them in ``test``.

    Returns:
        The records with splits, and counts of the images that are left out.

    Raises:
        ValueError: If there are no splits and none are asked for, both, or only some have one.
    """
    named, unknown = _without_unknown(data, records)
    _check_names(named)

    if data.test:
        named = _hold_out(data, named, seed)
    elif all(record.split is None for record in named):
        raise ValueError(
            f"data.test: the images at {data.root} have no splits (train, query, gallery). Add "
            "--set data.test=0.25 to hold out a quarter of the identities for the test, or name "
            "the split of each image: its folder, a column, or {split} in data.pattern."
        )

    if draw_queries and not any(record.split == "query" for record in named):
        named = _draw_queries(data, named, seed)
    elif data.since is not None:
        raise ValueError("data.since: the data already has queries (query). Remove the key.")

    return _with_distractors(named, unknown)


def _without_unknown(data: OwnImages, records: Sequence[ImageRecord]) -> tuple[Records, Records]:
    """The records of named individuals, and those of unknown ones."""
    if data.unknown is None:
        return list(records), []

    named = [record for record in records if str(record.identity) != data.unknown]
    unknown = [record for record in records if str(record.identity) == data.unknown]
    if not unknown or not named:
        count = "no image" if not unknown else "every image"
        raise ValueError(
            f"data.unknown: {count} has the identity {data.unknown!r}. Set it to the identity that "
            "unknown individuals have."
        )
    return named, unknown


def _check_names(records: Records) -> None:
    """Require a split of every record, or of none, and names that mean something."""
    bare = [record.path for record in records if record.split is None]
    if bare and len(bare) < len(records):
        raise ValueError(
            f"data: {len(bare)} of {len(records)} images have no split ({bare[0]}, ...), and the "
            "others have one. Name it for all of them, or for none and set data.test."
        )

    names = {record.split for record in records if record.split not in (None, *_KNOWN)}
    if names:
        raise ValueError(
            f"data: {', '.join(sorted(map(str, names)))} is no split; the names of splits are "
            f"{', '.join(_KNOWN)}. Rename it, or read a part of the images."
        )


def _hold_out(data: OwnImages, records: Records, seed: int) -> Records:
    """Hold identities out of the training images for the test."""
    tested = sorted({str(record.split) for record in records if record.split in _TESTED})
    if tested:
        raise ValueError(
            f"data.test: the data already has test images ({', '.join(tested)}). Set it to 0."
        )

    rest = [record for record in records if record.split not in (None, "train")]
    pool = [record for record in records if record.split in (None, "train")]
    if data.test == 1:
        return [*_with_split(pool, "test"), *rest]

    names = ("train", "query", "gallery")
    manifest = kit.hold_out_identities(pool, fraction=data.test, names=names, seed=seed)
    divided = kit.apply_split(pool, manifest)
    test = [record for record in divided if record.split != "train"]
    return [*records_of(divided, "train"), *_with_split(test, "test"), *rest]


def _draw_queries(data: OwnImages, records: Records, seed: int) -> Records:
    """Divide the test images into queries and a gallery, by time or by chance."""
    test = [record for record in records if record.split == "test"]
    rest = [record for record in records if record.split != "test"]
    if not test:
        return rest  # the arrangement of tests says what is missing

    if data.since is not None:
        manifest = kit.split_by_time(test, data.since, column=data.time_column)
        return [*rest, *_with_matches(kit.apply_split(test, manifest))]

    manifest = kit.split_queries(test, query_images=_QUERY_IMAGES, seed=seed)
    return [*rest, *kit.apply_split(test, manifest)]


def _with_matches(test: Records) -> Records:
    """Put queries of individuals that were not seen before into the gallery, as distractors."""
    gallery = {record.identity for record in test if record.split == "gallery"}
    new = [record for record in test if record.identity not in gallery]
    seen = [record for record in test if record.identity in gallery]
    return [*seen, *_with_split(new, "gallery")]


def _with_distractors(records: Records, unknown: Records) -> tuple[Records, dict[str, int]]:
    """Add unknown individuals to the gallery, or to the test images; those of others are left out.

    They are no identity, so that they can neither be trained on nor be the match of a query.
    """
    if not unknown:
        return records, {}

    has_gallery = any(record.split == "gallery" for record in records)
    side = "gallery" if has_gallery else "test"
    added = [record for record in unknown if record.split in (None, "gallery", "test")]
    left_out = len(unknown) - len(added)
    found = {"unknown_individuals_left_out": left_out} if left_out else {}
    return [*records, *_with_split(added, side)], found


def _with_split(records: Sequence[ImageRecord], split: str) -> Records:
    return [replace(record, split=split) for record in records]

"""Splits that share no identity: at random, by order, or held out of the training split."""

import math
import os
from collections.abc import Mapping, Sequence

from clipreid_kit._checks import check_integer, check_number, fail
from clipreid_kit.data.manifests._build_manifest import build_manifest
from clipreid_kit.data.manifests._image_keys import (
    check_open_fraction,
    images_of,
    keys_except,
    shuffled,
)
from clipreid_kit.data.manifests._query_choice import choose_queries
from clipreid_kit.data.manifests.manifest import SplitManifest
from clipreid_kit.data.records import ImageRecord


def split_identities(
    records: Sequence[ImageRecord],
    fractions: Mapping[str, float],
    *,
    seed: int = 0,
    data: str = "",
    root: str | os.PathLike[str] | None = None,
) -> SplitManifest:
    """Divide identities at random into parts; no identity is in two parts.

    Use it for data without official splits. The part of an identity depends on the seed and its
    name, not on the order of the records.

    Args:
        records: The records to split; their present splits are ignored.
        fractions: Name of each part and its fraction of the identities, with sum 1. Counts are
            rounded so that they sum up; of equal fractions, the first part gets more.
        seed: Seed of the draw, >= 0.
        data: Name of the data, for the manifest.
        root: Folder that the manifest's paths are relative to; ``None`` means the deepest folder
            that holds all images.

    Returns:
        A manifest whose parts hold every image exactly once.

    Raises:
        ValueError: If there are no records, fractions are not in (0, 1] or do not sum to 1, or a
            part would be empty.

    Example:
        >>> records = [ImageRecord(f"{identity}.jpg", identity) for identity in range(10)]
        >>> manifest = split_identities(records, {"train": 0.8, "test": 0.2}, seed=1)
        >>> {name: len(keys) for name, keys in manifest.splits.items()}
        {'train': 8, 'test': 2}
    """
    owner = "split_identities"
    check_integer(owner, "seed", seed, 0)
    _check_fractions(owner, fractions)

    images = images_of(owner, records, root)
    identity_of = {repr(identity): identity for identity in images}
    names = shuffled(identity_of, seed, "identity")

    splits: dict[str, list[str]] = {}
    start = 0
    counts = _round_shares(len(names), list(fractions.values()))
    for part, count in zip(fractions, counts, strict=True):
        splits[part] = []
        for name in names[start : start + count]:
            splits[part].extend(images[identity_of[name]])
        start += count

    shares = ", ".join(f"{part} {fraction:g}" for part, fraction in fractions.items())
    rule = f"identities at random: {shares}"
    return build_manifest(owner, images, splits, data=data, rule=rule, seed=seed)


def split_first_identities(
    records: Sequence[ImageRecord],
    *,
    fraction: float = 0.5,
    names: tuple[str, str] = ("train", "test"),
    data: str = "",
    root: str | os.PathLike[str] | None = None,
) -> SplitManifest:
    """Put the first identities into one part and the remaining ones into another, without chance.

    Use it if a protocol demands it, such as the first half of the persons of the hand data sets.

    Args:
        records: The records to split; their present splits are ignored.
        fraction: Fraction of the identities, in sorted order, for the first part, in (0, 1); the
            number is rounded up.
        names: Names of the two parts.
        data: Name of the data, for the manifest.
        root: Folder that the manifest's paths are relative to; ``None`` means the deepest folder
            that holds all images.

    Returns:
        A manifest whose two parts hold every image exactly once.

    Raises:
        ValueError: If there are no records, the fraction is not in (0, 1), or a part would be
            empty.

    Example:
        >>> records = [ImageRecord(f"{identity}.jpg", identity) for identity in (1, 10, 9)]
        >>> split_first_identities(records).splits
        {'train': ('1.jpg', '9.jpg'), 'test': ('10.jpg',)}
    """
    owner = "split_first_identities"
    check_open_fraction(owner, fraction)

    images = images_of(owner, records, root)
    identities = list(images)
    cut = math.ceil(fraction * len(identities))

    splits: dict[str, list[str]] = {name: [] for name in names}
    for position, identity in enumerate(identities):
        part = names[0] if position < cut else names[1]
        splits[part].extend(images[identity])

    rule = f"the first {cut} of {len(identities)} identities in sorted order"
    return build_manifest(owner, images, splits, data=data, rule=rule, seed=None)


def hold_out_identities(
    records: Sequence[ImageRecord],
    *,
    fraction: float = 0.1,
    query_images: int = 1,
    names: tuple[str, str, str] = ("train", "val_query", "val_gallery"),
    seed: int = 0,
    data: str = "",
    root: str | os.PathLike[str] | None = None,
) -> SplitManifest:
    """Hold validation identities out of the training split, as queries and a gallery.

    Use it to choose epochs and settings without looking at test identities. Only identities that
    give a query with a match are held out: two images, from two cameras if cameras are known.

    Args:
        records: Training records only, as ``records_of(records, "train")`` returns them.
        fraction: Fraction of all identities to hold out, in (0, 1); at least one is held out.
        query_images: Maximum number of queries of an identity, >= 1; every query keeps a gallery
            image, from another camera if cameras are known.
        names: Names of the three parts.
        seed: Seed of the draw, >= 0.
        data: Name of the data, for the manifest.
        root: Folder that the manifest's paths are relative to; ``None`` means the deepest folder
            that holds all images.

    Returns:
        A manifest whose three parts hold every image exactly once. Add the test records to the
        result of :func:`apply_split`.

    Raises:
        ValueError: If there are no records, the fraction is not in (0, 1), or too few identities
            give a query.

    Example:
        >>> records = [ImageRecord(f"{n}.jpg", n // 2, camera=n % 2) for n in range(20)]
        >>> manifest = hold_out_identities(records, fraction=0.2)
        >>> {name: len(keys) for name, keys in manifest.splits.items()}
        {'train': 16, 'val_query': 2, 'val_gallery': 2}
    """
    owner = "hold_out_identities"
    check_integer(owner, "seed", seed, 0)
    check_integer(owner, "query_images", query_images, 1)
    check_open_fraction(owner, fraction)
    images = images_of(owner, records, root)

    suitable: dict[str, int | str] = {}
    for identity, group in images.items():
        if choose_queries(group, list(group), 1):
            suitable[repr(identity)] = identity

    count = max(1, math.floor(fraction * len(images) + 0.5))
    if len(suitable) < count:
        raise ValueError(
            f"{owner}: expected {count} identities with images from two cameras (or two images, "
            f"if cameras are unknown), got {len(suitable)}. Hold out fewer."
        )

    queries: list[str] = []
    held_out: set[str] = set()
    for name in shuffled(suitable, seed, "held out")[:count]:
        group = images[suitable[name]]
        queries += choose_queries(group, shuffled(group, seed, "query"), query_images)
        held_out.update(group)

    train, query, gallery = names
    splits = {
        train: keys_except(images, held_out),
        query: queries,
        gallery: sorted(held_out - set(queries)),
    }
    rule = (
        f"{count} of {len(images)} identities held out at random, "
        f"at most {query_images} queries each"
    )
    return build_manifest(owner, images, splits, data=data, rule=rule, seed=seed)


def _check_fractions(owner: str, fractions: Mapping[str, float]) -> None:
    for part, fraction in fractions.items():
        check_number(owner, f"fractions[{part!r}]", fraction)

    in_range = all(0 < fraction <= 1 for fraction in fractions.values())
    if not in_range or abs(sum(fractions.values()) - 1) > 1e-6:
        remedy = "Such as {'train': 0.8, 'test': 0.2}."
        raise fail(owner, "fractions in (0, 1] that sum to 1", dict(fractions), remedy)


def _round_shares(total: int, fractions: Sequence[float]) -> list[int]:
    """Round shares of a total so that they sum up: the largest remainders are rounded up."""
    counts = [math.floor(total * fraction + 1e-9) for fraction in fractions]

    def rank(part: int) -> tuple[float, int]:
        return round(counts[part] - total * fractions[part], 9), part

    num_missing = total - sum(counts)
    for part in sorted(range(len(counts)), key=rank)[:num_missing]:
        counts[part] += 1

    return counts

"""Splits that share no identity: at random, by order, and validation identities taken out of training."""

import math
import os
from collections.abc import Mapping, Sequence

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data.manifests._build import build_manifest
from clipreid_kit.data.manifests._keys import images_of, shuffled
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
    """Share identities out at random: no identity is in two parts.

    Use it for data without official splits. An identity's place depends on the seed and its name, not on the
    order of records.

    Args:
        records: What to split; their present splits do not matter.
        fractions: Names of the parts and the fraction of identities of each, which sum to 1. Counts are
            rounded so that they sum up; the first part is the larger one where halves are equal.
        seed: Any whole number >= 0.
        data: Name of the data, for the manifest.
        root: Folder that the manifest's paths begin at; ``None`` means the deepest that holds all images.

    Returns:
        A manifest whose parts hold every image exactly once.

    Raises:
        ValueError: If there are no records, fractions are not in (0, 1] or do not sum to 1, or a part would
            be empty.

    Example:
        >>> records = [ImageRecord(f"{identity}.jpg", identity) for identity in range(10)]
        >>> manifest = split_identities(records, {"train": 0.8, "test": 0.2}, seed=1)
        >>> {name: len(keys) for name, keys in manifest.splits.items()}
        {'train': 8, 'test': 2}
    """
    check_integer("split_identities", "seed", seed, 0)
    if (
        not fractions
        or any(not 0 < f <= 1 for f in fractions.values())
        or abs(sum(fractions.values()) - 1) > 1e-6
    ):
        expected = "fractions in (0, 1] that sum to 1"
        raise fail(
            "split_identities", expected, dict(fractions), "Such as {'train': 0.8, 'test': 0.2}."
        )
    images = images_of("split_identities", records, root)
    names = {repr(identity): identity for identity in images}
    order = shuffled(names, seed, "identity")
    counts = _share(len(order), list(fractions.values()))
    splits, start = {}, 0
    for name, count in zip(fractions, counts, strict=True):
        splits[name] = [key for one in order[start : start + count] for key in images[names[one]]]
        start += count
    shares = ", ".join(f"{name} {fraction:g}" for name, fraction in fractions.items())
    rule = f"identities at random: {shares}"
    return build_manifest("split_identities", images, splits, data=data, rule=rule, seed=seed)


def split_first_identities(
    records: Sequence[ImageRecord],
    *,
    fraction: float = 0.5,
    names: tuple[str, str] = ("train", "test"),
    data: str = "",
    root: str | os.PathLike[str] | None = None,
) -> SplitManifest:
    """Put the first identities into one part and the others into another, without chance.

    Use it where a protocol says so, such as the first half of the persons of the hand data sets.

    Args:
        records: What to split; their present splits do not matter.
        fraction: How many identities, in sorted order, go to the first part; in (0, 1), rounded up.
        names: Names of the two parts.
        data: Name of the data, for the manifest.
        root: Folder that the manifest's paths begin at; ``None`` means the deepest that holds all images.

    Returns:
        A manifest whose two parts hold every image exactly once.

    Raises:
        ValueError: If there are no records, the fraction is not in (0, 1), or a part would be empty.

    Example:
        >>> records = [ImageRecord(f"{identity}.jpg", identity) for identity in (1, 10, 9)]
        >>> split_first_identities(records).splits
        {'train': ('1.jpg', '9.jpg'), 'test': ('10.jpg',)}
    """
    if not 0 < fraction < 1:
        raise fail("split_first_identities", "fraction in (0, 1)", fraction)
    images = images_of("split_first_identities", records, root)
    identities = list(images)
    cut = math.ceil(fraction * len(identities))
    halves = (identities[:cut], identities[cut:])
    splits = {
        n: [key for i in half for key in images[i]] for n, half in zip(names, halves, strict=True)
    }
    rule = f"the first {cut} of {len(identities)} identities in sorted order"
    return build_manifest("split_first_identities", images, splits, data=data, rule=rule, seed=None)


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
    """Take validation identities out of training, and make queries and a gallery of them.

    Use it to choose epochs and settings without looking at test identities. Only identities that make a query
    with a match are taken: two images, and from two cameras where cameras are known.

    Args:
        records: Training records alone, as ``records_of(records, "train")`` gives them.
        fraction: Fraction of all identities to take, in (0, 1); at least one is taken.
        query_images: Most queries of an identity, >= 1; every query keeps a gallery image, from another
            camera where cameras are known.
        names: Names of the three parts.
        seed: Any whole number >= 0.
        data: Name of the data, for the manifest.
        root: Folder that the manifest's paths begin at; ``None`` means the deepest that holds all images.

    Returns:
        A manifest whose three parts hold every image exactly once. Test records are added to what
        :func:`apply_split` makes of it.

    Raises:
        ValueError: If there are no records, the fraction is not in (0, 1), or fewer identities than that make
            a query.

    Example:
        >>> records = [ImageRecord(f"{n}.jpg", n // 2, camera=n % 2) for n in range(20)]
        >>> manifest = hold_out_identities(records, fraction=0.2)
        >>> {name: len(keys) for name, keys in manifest.splits.items()}
        {'train': 16, 'val_query': 2, 'val_gallery': 2}
    """
    check_integer("hold_out_identities", "seed", seed, 0)
    check_integer("hold_out_identities", "query_images", query_images, 1)
    if not 0 < fraction < 1:
        raise fail("hold_out_identities", "fraction in (0, 1)", fraction)
    images = images_of("hold_out_identities", records, root)
    able = {repr(i): i for i, group in images.items() if _queries(group, list(group), 1)}
    wanted = max(1, math.floor(fraction * len(images) + 0.5))
    if len(able) < wanted:
        expected = f"{wanted} identities with images of two cameras (or two images, where cameras are unknown)"
        raise fail("hold_out_identities", expected, len(able), "Hold out fewer.")
    taken = [able[name] for name in shuffled(able, seed, "held out")[:wanted]]
    queries = [
        q
        for i in taken
        for q in _queries(images[i], shuffled(images[i], seed, "query"), query_images)
    ]
    held = [key for identity in taken for key in images[identity]]
    held_or_not = set(held)
    splits = {
        names[0]: [key for group in images.values() for key in group if key not in held_or_not],
        names[1]: queries,
        names[2]: sorted(held_or_not - set(queries)),
    }
    rule = f"{wanted} of {len(images)} identities held out at random, at most {query_images} queries each"
    return build_manifest("hold_out_identities", images, splits, data=data, rule=rule, seed=seed)


def _share(total: int, fractions: list[float]) -> list[int]:
    """Round shares so that they sum up: the largest remainders are rounded up."""
    counts = [math.floor(total * fraction + 1e-9) for fraction in fractions]
    remainders = [
        count - total * fraction for count, fraction in zip(counts, fractions, strict=True)
    ]
    for place in sorted(range(len(counts)), key=lambda n: (round(remainders[n], 9), n))[
        : total - sum(counts)
    ]:
        counts[place] += 1
    return counts


def _queries(images: Mapping[str, ImageRecord], order: list[str], most: int) -> list[str]:
    """Choose queries in order, so that each keeps a match among the images that are not chosen."""
    chosen: list[str] = []
    for key in order:
        attempt = [*chosen, key]
        rest = {images[other].camera for other in images if other not in attempt}
        if all(
            rest - {images[one].camera} or (images[one].camera is None and rest) for one in attempt
        ):
            chosen = attempt
        if len(chosen) == most:
            break
    return chosen

"""A split within identities: validation takes some images of each identity."""

import math
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data.manifests._build_manifest import build_manifest
from clipreid_kit.data.manifests._image_keys import (
    check_open_fraction,
    images_of,
    keys_except,
    keys_of,
    sort_identities,
)
from clipreid_kit.data.manifests.manifest import SplitManifest
from clipreid_kit.data.records import ImageRecord


def split_images(
    records: Sequence[ImageRecord],
    *,
    fraction: float = 0.2,
    names: tuple[str, str] = ("train", "val"),
    seed: int = 42,
    data: str = "",
    root: str | os.PathLike[str] | None = None,
) -> SplitManifest:
    """Take out a fraction of the images, stratified by identity.

    Use it to reproduce a protocol that validates on images of trained identities, such as the
    fashion pipeline (20 % of In-shop's training images, seed 42). It says nothing about unseen
    identities: to choose settings, prefer :func:`hold_out_identities`.

    The images are those that scikit-learn's ``train_test_split(..., test_size=fraction,
    random_state=seed, stratify=identities)`` takes, without the identities that have one image; so
    they depend on the order of the records.

    Args:
        records: The records to split, in the order that the split is to depend on.
        fraction: Fraction of the images of identities with two or more, in (0, 1); the number is
            rounded up.
        names: Names of the larger part, which keeps identities with one image, and of the part that
            is taken out.
        seed: Seed of the draw, from 0 to 2**32 - 1.
        data: Name of the data, for the manifest.
        root: Folder that the manifest's paths are relative to; ``None`` means the deepest folder
            that holds all images.

    Returns:
        A manifest whose two parts hold every image exactly once.

    Raises:
        ValueError: If there are no records, no identity has two images, or fraction or seed are out
            of range.

    Example:
        >>> records = [ImageRecord(f"{n}.jpg", n // 5) for n in range(10)]
        >>> manifest = split_images(records, fraction=0.2)
        >>> [len(keys) for keys in manifest.splits.values()]
        [8, 2]
    """
    owner = "split_images"
    check_open_fraction(owner, fraction)
    check_integer(owner, "seed", seed, 0)
    if seed >= 2**32:
        raise fail(owner, "seed below 2**32", seed)

    images = images_of(owner, records, root)
    groups = _in_order_of_records(owner, records, root)
    num_single = len(images) - len(groups)
    if not groups:
        raise ValueError(
            f"{owner}: every identity has a single image, so none can be split into "
            f"{names[0]} and {names[1]}."
        )

    taken = _take(groups, fraction, seed)
    splits = {names[0]: keys_except(images, taken), names[1]: sorted(taken)}
    rule = (
        f"{fraction:g} of the images, stratified by identity; "
        f"{num_single} identities with one image stay in {names[0]!r}"
    )
    return build_manifest(owner, images, splits, data=data, rule=rule, seed=seed)


def _in_order_of_records(
    owner: str, records: Sequence[ImageRecord], root: str | os.PathLike[str] | None
) -> list[list[str]]:
    """List the images of each identity that has at least two, in the order of the records."""
    groups: dict[int | str, list[str]] = {}
    by_key = dict(zip(keys_of(owner, records, root), records, strict=True))
    for key, record in by_key.items():
        groups.setdefault(record.identity, []).append(key)

    in_order = [groups[identity] for identity in sort_identities(groups)]
    return [group for group in in_order if len(group) > 1]


def _take(groups: Sequence[Sequence[str]], fraction: float, seed: int) -> set[str]:
    """Choose images of every group, with the random draws of scikit-learn in its order."""
    rng = np.random.RandomState(seed)  # legacy, with a frozen stream: the one to reproduce
    sizes = np.array([len(group) for group in groups])
    total = int(sizes.sum())

    num_taken = math.ceil(fraction * total)
    num_kept_of_group = _proportional(sizes, total - num_taken, rng)
    num_taken_of_group = _proportional(sizes - num_kept_of_group, num_taken, rng)

    taken: set[str] = set()
    for group, kept, count in zip(groups, num_kept_of_group, num_taken_of_group, strict=True):
        order = rng.permutation(len(group))
        taken.update(group[position] for position in order[kept : kept + count])

    return taken


def _proportional(
    sizes: NDArray[np.int64], total: int, rng: np.random.RandomState
) -> NDArray[np.int64]:
    """Divide a total in proportion to sizes.

    The remainder that rounding leaves goes to the largest fractions, at random among equal ones.
    """
    ideal = sizes / sizes.sum() * total
    shares = np.floor(ideal)
    fractions = ideal - shares
    remainder = total - int(shares.sum())

    for value in np.unique(fractions)[::-1]:
        if remainder <= 0:
            break
        (equal,) = np.nonzero(fractions == value)
        chosen = rng.choice(equal, size=min(len(equal), remainder), replace=False)
        shares[chosen] += 1
        remainder -= len(chosen)

    whole: NDArray[np.int64] = shares.astype(np.int64)
    return whole

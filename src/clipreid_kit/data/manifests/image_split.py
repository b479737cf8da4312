"""A split inside identities: some images of each are validated on, the others trained on."""

import math
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data.manifests._build import build_manifest
from clipreid_kit.data.manifests._keys import images_of, keys_of, sort_identities
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
    """Take a fraction of the images out, spread over the identities in proportion (stratified by identity).

    Use it to repeat a protocol that validates on images of trained identities, such as the fashion pipeline
    (20 % of In-shop's training images, seed 42). It says nothing about unseen identities: to choose settings,
    :func:`hold_out_identities` is the better one.

    The images are those that scikit-learn's ``train_test_split(..., test_size=fraction, random_state=seed,
    stratify=identities)`` takes, once identities with one image are set aside; so they depend on the order of
    the records.

    Args:
        records: What to split, in the order that the split shall depend on.
        fraction: Fraction of the images of identities that have two or more, in (0, 1), rounded up.
        names: Names of the larger part, which keeps identities with one image, and of the part taken out.
        seed: A whole number from 0 to 2**32 - 1.
        data: Name of the data, for the manifest.
        root: Folder that the manifest's paths begin at; ``None`` means the deepest that holds all images.

    Returns:
        A manifest whose two parts hold every image exactly once.

    Raises:
        ValueError: If there are no records, no identity has two images, or fraction or seed are out of range.

    Example:
        >>> records = [ImageRecord(f"{n}.jpg", n // 5) for n in range(10)]
        >>> manifest = split_images(records, fraction=0.2)
        >>> [len(keys) for keys in manifest.splits.values()]
        [8, 2]
    """
    check_integer("split_images", "seed", seed, 0)
    if seed >= 2**32:
        raise fail("split_images", "seed below 2**32", seed)
    if not 0 < fraction < 1:
        raise fail("split_images", "fraction in (0, 1)", fraction)
    images = images_of("split_images", records, root)
    groups: dict[int | str, list[str]] = {identity: [] for identity in images}
    for key, record in dict(
        zip(keys_of("split_images", records, root), records, strict=True)
    ).items():
        groups[record.identity].append(key)
    pairs = [groups[identity] for identity in sort_identities(groups) if len(groups[identity]) > 1]
    if not pairs:
        raise fail(
            "split_images",
            "an identity with two images or more",
            "none",
            "There is nothing to share out.",
        )
    taken = _take(pairs, fraction, seed)
    kept = [key for group in images.values() for key in group if key not in taken]
    single = len(groups) - len(pairs)
    rule = (
        f"{fraction:g} of the images, stratified by identity; "
        f"{single} identities with one image stay in {names[0]!r}"
    )
    splits = {names[0]: kept, names[1]: sorted(taken)}
    return build_manifest("split_images", images, splits, data=data, rule=rule, seed=seed)


def _take(groups: list[list[str]], fraction: float, seed: int) -> set[str]:
    """Choose images of every group; the draws and their order are scikit-learn's."""
    rng = np.random.RandomState(seed)  # its stream is fixed for ever, and is the one to match
    sizes = np.array([len(group) for group in groups])
    number = math.ceil(fraction * int(sizes.sum()))
    stay = _proportional(sizes, int(sizes.sum()) - number, rng)
    leave = _proportional(sizes - stay, number, rng)
    taken: set[str] = set()
    for group, first, count in zip(groups, stay, leave, strict=True):
        order = rng.permutation(len(group))
        taken.update(group[place] for place in order[first : first + count])
    return taken


def _proportional(
    sizes: NDArray[np.int64], number: int, rng: np.random.RandomState
) -> NDArray[np.int64]:
    """Share ``number`` out in proportion to ``sizes``; what rounding leaves goes to the largest remainders, by lot."""
    ideal = sizes / sizes.sum() * number
    shares = np.floor(ideal)
    left = number - int(shares.sum())
    remainders = ideal - shares
    for value in np.unique(remainders)[::-1]:
        if left <= 0:
            break
        (places,) = np.nonzero(remainders == value)
        chosen = rng.choice(places, size=min(len(places), left), replace=False)
        shares[chosen] += 1
        left -= len(chosen)
    whole: NDArray[np.int64] = shares.astype(np.int64)
    return whole

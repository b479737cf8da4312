"""The protocol of the hand data sets: half of the persons for training, and random galleries."""

import math
import os
from collections.abc import Sequence

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data.manifests._build_manifest import build_manifest
from clipreid_kit.data.manifests._image_keys import (
    ImagesByIdentity,
    draw_images,
    images_of,
    keys_except,
)
from clipreid_kit.data.manifests.manifest import SplitManifest
from clipreid_kit.data.records import ImageRecord

_OWNER = "split_hands"
_LIMIT = 10_000_000  # above all persons


def split_hands(
    records: Sequence[ImageRecord],
    *,
    aspect: str,
    num_splits: int = 10,
    seed: int = 0,
    data: str = "",
    root: str | os.PathLike[str] | None = None,
) -> SplitManifest:
    """Build all parts of the hand re-identification protocol for one aspect.

    Use it for :func:`read_hands11k` and :func:`read_polyu_hands`. The first half of the aspect's
    persons is for training, except for one random image each (``val``). Of the second half, one
    random image of each person is the gallery and all remaining images are queries, ``num_splits``
    times.

    If the records include other aspects, there are also ``gallery<n>_all``: ``gallery<n>`` plus the
    galleries of the other aspects, drawn in the same way, as different persons. Published results
    (MBA-Net) are on these, with 290 images for 11k Hands: state which of the two a result is on.

    Args:
        records: All records of a reader, of this aspect and of others; persons are whole numbers.
            Records with split ``distractor`` are in every gallery.
        aspect: The ``view`` for training and testing, such as ``dorsal_r``.
        num_splits: Number N of random galleries, >= 1.
        seed: Seed of the draws, >= 0.
        data: Name of the data, for the manifest.
        root: Folder that the manifest's paths are relative to; ``None`` means the deepest folder
            that holds all images.

    Returns:
        A manifest with ``train``, ``val``, and for each n ``query<n>``, ``gallery<n>`` and, with
        other aspects, ``gallery<n>_all``. There, images of other aspects have the person's number
        plus 11,000,000, 21,000,000 or 31,000,000.

    Raises:
        ValueError: If no record has this aspect, persons are not whole numbers below 10,000,000, or
            there are too few of them.

    Example:
        >>> records = []
        >>> for view in ("l", "r"):
        ...     records += [ImageRecord(f"{view}{n}.jpg", n // 3, view=view) for n in range(12)]
        >>> manifest = split_hands(records, aspect="r", num_splits=1)
        >>> {name: len(keys) for name, keys in manifest.splits.items()}
        {'train': 4, 'val': 2, 'query0': 4, 'gallery0': 2, 'gallery0_all': 4}
    """
    check_integer(_OWNER, "num_splits", num_splits, 1)
    check_integer(_OWNER, "seed", seed, 0)
    _check_persons(records)
    other_aspects = _other_aspects(records, aspect)

    images = images_of(_OWNER, records, root)
    train_persons, test_persons = _halves(_images_of_aspect(images, aspect))
    distractors = _distractors(images)

    validation = _validation_images(train_persons, seed)
    splits = {"train": keys_except(train_persons, validation), "val": sorted(validation)}

    strangers = [_halves(_images_of_aspect(images, other))[1] for other in other_aspects]
    stranger_ids: dict[str, int | str] = {}
    for number in range(num_splits):
        gallery = draw_images(test_persons, 1, seed, f"gallery{number}")
        splits[f"query{number}"] = keys_except(test_persons, set(gallery))
        splits[f"gallery{number}"] = [*gallery, *distractors]

        if strangers:
            drawn = _draw_strangers(strangers, seed, f"gallery{number}")
            stranger_ids.update(drawn)
            splits[f"gallery{number}_all"] = [*gallery, *distractors, *drawn]

    num_persons = len(train_persons) + len(test_persons)
    rule = (
        f"{aspect}: the first {len(train_persons)} of {num_persons} persons trained on, "
        f"{num_splits} draws of one gallery image a person, {len(distractors)} distractors, "
        f"other aspects: {', '.join(other_aspects) or 'none'}"
    )
    return build_manifest(
        _OWNER, images, splits, data=data, rule=rule, seed=seed, identities=stranger_ids
    )


def _check_persons(records: Sequence[ImageRecord]) -> None:
    for record in records:
        person = record.identity
        if not isinstance(person, int) or not 0 <= person < _LIMIT:
            raise fail(_OWNER, f"persons as whole numbers from 0 to {_LIMIT - 1}", repr(person))


def _other_aspects(records: Sequence[ImageRecord], aspect: str) -> list[str]:
    """List the aspects of the records except for the given one, which must be among them."""
    aspects = {record.view or "" for record in records}
    if aspect not in aspects:
        found = ", ".join(repr(name) for name in sorted(aspects)) or "none"
        raise ValueError(f"{_OWNER}: no record has view {aspect!r}; the views are {found}.")

    return sorted(aspects - {aspect})


def _images_of_aspect(images: ImagesByIdentity, aspect: str) -> ImagesByIdentity:
    """Keep the persons and images of one aspect, without distractors."""
    chosen = {}
    for person, group in images.items():
        of_aspect = {
            key: record
            for key, record in group.items()
            if (record.view or "") == aspect and record.split != "distractor"
        }
        if of_aspect:
            chosen[person] = of_aspect

    return chosen


def _distractors(images: ImagesByIdentity) -> list[str]:
    found = []
    for group in images.values():
        found += [key for key, record in group.items() if record.split == "distractor"]

    return found


def _halves(images: ImagesByIdentity) -> tuple[ImagesByIdentity, ImagesByIdentity]:
    """Divide the persons, in sorted order, into two halves; the first is the larger one."""
    persons = list(images)
    cut = math.ceil(len(persons) / 2)
    first = {person: images[person] for person in persons[:cut]}
    second = {person: images[person] for person in persons[cut:]}
    return first, second


def _validation_images(images: ImagesByIdentity, seed: int) -> set[str]:
    """Draw one image of each person; a person with a single image is only trained on."""
    with_pairs = {person: group for person, group in images.items() if len(group) > 1}
    return set(draw_images(with_pairs, 1, seed, "val"))


def _draw_strangers(aspects: Sequence[ImagesByIdentity], seed: int, purpose: str) -> dict[str, int]:
    """Draw one image of each person in each other aspect, with a number that no person has.

    A left hand must not match the right hand of the same person.
    """
    stranger_ids = {}
    for place, images in enumerate(aspects, start=1):
        person_of = {key: person for person, group in images.items() for key in group}
        for key in draw_images(images, 1, seed, purpose):
            stranger_ids[key] = int(person_of[key]) + place * _LIMIT + _LIMIT // 10

    return stranger_ids

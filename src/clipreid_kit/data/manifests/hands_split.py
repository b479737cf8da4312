"""The protocol of the hand data sets: halves of the persons, a validation image each, ten random galleries."""

import math
import os
from collections.abc import Mapping, Sequence

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data.manifests._build import build_manifest
from clipreid_kit.data.manifests._keys import images_of
from clipreid_kit.data.manifests.manifest import SplitManifest
from clipreid_kit.data.manifests.query_gallery_split import draw
from clipreid_kit.data.records import ImageRecord


def split_hands(
    records: Sequence[ImageRecord],
    *,
    aspect: str,
    num_splits: int = 10,
    seed: int = 0,
    data: str = "",
    root: str | os.PathLike[str] | None = None,
) -> SplitManifest:
    """Make all parts of the hand re-identification protocol for one aspect.

    Use it for :func:`read_hands11k` and :func:`read_polyu_hands`. The first half of the aspect's persons is
    trained on, but for one random image each (``val``); of the second half, one random image a person is the
    gallery and all others are queries, ``num_splits`` times.

    With the other aspects among the records there are also ``gallery<n>_all``: ``gallery<n>`` and the
    galleries of the other aspects, drawn likewise, as persons of their own. Published numbers (MBA-Net) are on
    these, with 290 images for 11k Hands: say which of the two a result is on.

    Args:
        records: All records of a reader, of this aspect and of others; persons are whole numbers. Those with
            split ``distractor`` are in every gallery.
        aspect: The ``view`` that is trained and tested on, such as ``dorsal_r``.
        num_splits: N >= 1 random galleries.
        seed: Any whole number >= 0.
        data: Name of the data, for the manifest.
        root: Folder that the manifest's paths begin at; ``None`` means the deepest that holds all images.

    Returns:
        A manifest with ``train``, ``val``, and for each n ``query<n>``, ``gallery<n>`` and, with other
        aspects, ``gallery<n>_all``. Images of other aspects have the person's number plus 11,000,000,
        21,000,000 or 31,000,000 there.

    Raises:
        ValueError: If no record has this aspect, persons are not whole numbers below 10,000,000, or there are
            too few of them.

    Example:
        >>> records = [ImageRecord(f"{view}{n}.jpg", n // 3, view=view) for view in ("l", "r") for n in range(12)]
        >>> manifest = split_hands(records, aspect="r", num_splits=1)
        >>> {name: len(keys) for name, keys in manifest.splits.items()}
        {'train': 4, 'val': 2, 'query0': 4, 'gallery0': 2, 'gallery0_all': 4}
    """
    check_integer("split_hands", "num_splits", num_splits, 1)
    check_integer("split_hands", "seed", seed, 0)
    views = sorted({record.view or "" for record in records})
    if aspect not in views:
        raise fail(
            "split_hands",
            f"records of view {aspect!r}",
            f"views {', '.join(map(repr, views)) or 'none'}",
        )
    strange = next(
        (i for r in records if not isinstance(i := r.identity, int) or not 0 <= i < _LIMIT), None
    )
    if strange is not None:
        raise fail("split_hands", f"persons as whole numbers from 0 to {_LIMIT - 1}", repr(strange))
    everything = images_of("split_hands", records, root)
    groups = {view: _of_view(everything, view) for view in views}
    trained, tested = _halves(groups[aspect])
    always = [
        key for group in everything.values() for key, r in group.items() if r.split == "distractor"
    ]
    validated = set(
        draw({i: group for i, group in trained.items() if len(group) > 1}, 1, seed, "val")
    )
    splits = {"train": [key for group in trained.values() for key in group if key not in validated]}
    splits["val"] = sorted(validated)
    others = [(view, _halves(groups[view])[1]) for view in views if view != aspect]
    renamed: dict[str, int | str] = {}
    for number in range(num_splits):
        gallery = draw(tested, 1, seed, f"gallery{number}")
        out = set(gallery)
        splits[f"query{number}"] = [
            key for group in tested.values() for key in group if key not in out
        ]
        splits[f"gallery{number}"] = [*gallery, *always]
        strangers = []
        for place, (_, group) in enumerate(others, start=1):
            drawn = draw(group, 1, seed, f"gallery{number}")
            person = {key: identity for identity, keys in group.items() for key in keys}
            renamed.update({key: int(person[key]) + place * _LIMIT + _LIMIT // 10 for key in drawn})
            strangers += drawn
        if others:
            splits[f"gallery{number}_all"] = [*gallery, *always, *strangers]
    strangers_of = ", ".join(view for view, _ in others) or "none"
    rule = (
        f"{aspect}: the first {len(trained)} of {len(trained) + len(tested)} persons trained on, {num_splits} draws "
        f"of one gallery image a person, {len(always)} distractors, other aspects: {strangers_of}"
    )
    return build_manifest(
        "split_hands", everything, splits, data=data, rule=rule, seed=seed, identities=renamed
    )


_LIMIT = 10_000_000

_Group = Mapping[int | str, Mapping[str, ImageRecord]]


def _of_view(images: _Group, view: str) -> _Group:
    chosen = {
        identity: {
            key: r for key, r in group.items() if (r.view or "") == view and r.split != "distractor"
        }
        for identity, group in images.items()
    }
    return {identity: group for identity, group in chosen.items() if group}


def _halves(images: _Group) -> tuple[_Group, _Group]:
    cut = math.ceil(len(images) / 2)
    identities = list(images)
    return {i: images[i] for i in identities[:cut]}, {i: images[i] for i in identities[cut:]}

"""Names of images that stay the same when the data move, and random choices that depend on nothing else."""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path

from clipreid_kit._checks import fail
from clipreid_kit.data.records import ImageRecord

_SEPARATORS = re.compile(r"::|/" if os.sep == "/" else r"::|[/\\]")


def keys_of(
    owner: str, records: Sequence[ImageRecord], root: str | os.PathLike[str] | None
) -> list[str]:
    """Give each image's path below ``root``, or below the deepest folder (or archive's folder) that holds them all."""
    parts = [_SEPARATORS.split(record.path) for record in records]
    if root is None:
        common = [
            steps[0]
            for steps in takewhile(_all_equal, zip(*(names[:-1] for names in parts), strict=False))
        ]
    else:
        common = [part for part in _SEPARATORS.split(str(Path(root))) if part != "."]
    depth = len(common)
    outside = next(
        (
            r.path
            for r, p in zip(records, parts, strict=True)
            if p[:depth] != common or len(p) <= depth
        ),
        None,
    )
    if outside is not None:
        raise fail(
            owner, f"every image below {root}", outside, "Name the folder as the records' paths do."
        )
    return ["/".join(names[depth:]) for names in parts]


def images_of(
    owner: str, records: Sequence[ImageRecord], root: str | os.PathLike[str] | None
) -> dict[int | str, dict[str, ImageRecord]]:
    """Group images by identity, both in sorted order; an image that several records show counts once."""
    if not records:
        raise fail(owner, "records to split", "none")
    kinds = {type(record.identity).__name__ for record in records}
    if len(kinds) > 1:
        remedy = "Map all of them to one type: the integer 1 and the string '1' are different identities."
        raise fail(
            owner,
            "all identities as integers or all as strings",
            " and ".join(sorted(kinds)),
            remedy,
        )
    images: dict[str, ImageRecord] = {}
    for key, record in zip(keys_of(owner, records, root), records, strict=True):
        if images.setdefault(key, record).identity != record.identity:
            got = f"{images[key].identity!r} and {record.identity!r} for {record.path}"
            raise fail(owner, "one identity for each image", got)
    grouped: dict[int | str, dict[str, ImageRecord]] = {}
    for key in sorted(images):
        grouped.setdefault(images[key].identity, {})[key] = images[key]
    return {identity: grouped[identity] for identity in sort_identities(grouped)}


def sort_identities(identities: Iterable[int | str]) -> list[int | str]:
    """Sort numbers as numbers and texts as texts."""
    return sorted(
        identities,
        key=lambda identity: (identity, "") if isinstance(identity, int) else (0, identity),
    )


def _all_equal(steps: tuple[str, ...]) -> bool:
    return len(set(steps)) == 1


def shuffled(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    """Order names at random by (seed, purpose, name) alone: no generator, no version of one, no other name matters."""

    def rank(name: str) -> bytes:
        return hashlib.blake2b(f"{seed}\n{purpose}\n{name}".encode(), digest_size=16).digest()

    return sorted(names, key=rank)

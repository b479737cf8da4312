"""Name images independently of where the data are stored, and draw them at random by name."""

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from clipreid_kit._checks import check_number, fail
from clipreid_kit.data.records import ImageRecord, check_records

ImagesByIdentity = Mapping[int | str, Mapping[str, ImageRecord]]

_SEPARATORS = re.compile(r"::|/" if os.sep == "/" else r"::|[/\\]")


def keys_of(
    owner: str, records: Sequence[ImageRecord], root: str | os.PathLike[str] | None
) -> list[str]:
    """Return the path of each image relative to ``root``.

    ``None`` means the deepest folder, or folder in an archive, that holds all images.
    """
    check_records(owner, records)
    paths = [_SEPARATORS.split(record.path) for record in records]

    if root is None:
        folder = _common_folder(paths)
    else:
        folder = [step for step in _SEPARATORS.split(str(Path(root))) if step != "."]

    depth = len(folder)
    for record, path in zip(records, paths, strict=True):
        if path[:depth] != folder or len(path) <= depth:
            remedy = "Name the folder as the records' paths do."
            raise fail(owner, f"every image below {root}", record.path, remedy)

    return ["/".join(path[depth:]) for path in paths]


def images_of(
    owner: str, records: Sequence[ImageRecord], root: str | os.PathLike[str] | None
) -> dict[int | str, dict[str, ImageRecord]]:
    """Group images by identity, both in sorted order; an image of several records counts once."""
    if not records:
        raise ValueError(f"{owner}: there are no records to split. Pass at least one.")

    check_records(owner, records)
    kinds = {type(record.identity).__name__ for record in records}
    if len(kinds) > 1:
        remedy = "Map all of them to one type: the integer 1 and the string '1' differ."
        got = " and ".join(sorted(kinds))
        raise fail(owner, "all identities as integers or all as strings", got, remedy)

    images: dict[str, ImageRecord] = {}
    for key, record in zip(keys_of(owner, records, root), records, strict=True):
        first = images.setdefault(key, record)
        if first.identity != record.identity:
            raise ValueError(
                f"{owner}: {record.path} has two identities, {first.identity!r} and "
                f"{record.identity!r}. Give each image one identity."
            )

    grouped: dict[int | str, dict[str, ImageRecord]] = {}
    for key in sorted(images):
        grouped.setdefault(images[key].identity, {})[key] = images[key]

    return {identity: grouped[identity] for identity in sort_identities(grouped)}


def keys_except(images: ImagesByIdentity, excluded: Collection[str]) -> list[str]:
    """List the images of all identities, except for some."""
    return [key for group in images.values() for key in group if key not in excluded]


def sort_identities(identities: Iterable[int | str]) -> list[int | str]:
    """Sort integers by value and strings alphabetically."""

    def rank(identity: int | str) -> tuple[int, str]:
        return (identity, "") if isinstance(identity, int) else (0, identity)

    return sorted(identities, key=rank)


def shuffled(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    """Order names at random, by (seed, purpose, name) alone.

    No generator, no version of one and no other name changes where a name comes.
    """

    def rank(name: str) -> bytes:
        return hashlib.blake2b(f"{seed}\n{purpose}\n{name}".encode(), digest_size=16).digest()

    return sorted(names, key=rank)


def draw_images(images: ImagesByIdentity, count: int, seed: int, purpose: str) -> list[str]:
    """Draw up to ``count`` images of each identity at random."""
    return [key for group in images.values() for key in shuffled(group, seed, purpose)[:count]]


def check_open_fraction(owner: str, fraction: float) -> None:
    """Require a number in (0, 1)."""
    check_number(owner, "fraction", fraction)
    if not 0 < fraction < 1:
        raise fail(owner, "fraction in (0, 1)", fraction)


def _common_folder(paths: Sequence[Sequence[str]]) -> list[str]:
    """Find the deepest folder that all paths share, as a list of its steps."""
    folders = [path[:-1] for path in paths]

    common = []
    for steps in zip(*folders, strict=False):
        if len(set(steps)) > 1:
            break
        common.append(steps[0])

    return common

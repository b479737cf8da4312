"""A split as a file: which images are in which part, by what rule and seed, and of which data."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from clipreid_kit._checks import fail
from clipreid_kit._files import write_whole
from clipreid_kit.data.manifests._keys import keys_of
from clipreid_kit.data.records import ImageRecord


@dataclass(frozen=True, slots=True)
class SplitManifest:
    """A split: names of images, not copies of them; and where it comes from.

    An image may be in several parts: ten random query and gallery splits are one manifest.

    Attributes:
        data: Name of the data that the split was made from.
        rule: How it was made, in words.
        seed: The seed of its random choices; ``None`` if there were none.
        splits: The images of each part, by their paths below the data's folder, with ``/``.
        sha256: Checksum of these images' paths and identities in the data.
        identities: Other identities that some images have here: distractors, that must be nobody's match.

    Example:
        >>> SplitManifest("photos", "by hand", None, {"train": ("a.jpg",)}, "").splits["train"]
        ('a.jpg',)
    """

    data: str
    rule: str
    seed: int | None
    splits: Mapping[str, Sequence[str]]
    sha256: str
    identities: Mapping[str, int | str] = field(default_factory=dict)


def write_split(manifest: SplitManifest, path: str | os.PathLike[str]) -> None:
    """Write a manifest as JSON that :func:`read_split` reads back.

    Use it to keep a split beside results, or to share it. The file appears whole or not at all.

    Args:
        manifest: What to write.
        path: Where to, such as ``split.json``; the folder has to exist, an existing file is replaced.

    Raises:
        ValueError: If the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> manifest = SplitManifest("photos", "by hand", None, {"train": ("a.jpg",)}, "")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_split(manifest, pathlib.Path(folder, "split.json"))
        ...     read_split(pathlib.Path(folder, "split.json")) == manifest
        True
    """
    # Not asdict: that copies every name.
    content = {
        "format": _FORMAT,
        "version": 1,
        **{one.name: getattr(manifest, one.name) for one in fields(manifest)},
    }
    try:
        write_whole(Path(path), f"{json.dumps(content, ensure_ascii=False, indent=1)}\n".encode())
    except (OSError, UnicodeEncodeError) as error:
        raise fail("write_split", f"to write {path}", str(error), "Check the folder.") from error


def read_split(path: str | os.PathLike[str]) -> SplitManifest:
    """Read a manifest that :func:`write_split` wrote.

    Use it before :func:`apply_split`.

    Args:
        path: The JSON file.

    Returns:
        The manifest, equal to the one that was written.

    Raises:
        ValueError: If the file is missing, not JSON, or no manifest of a known version.

    Example:
        >>> read_split("no/such/split.json")
        Traceback (most recent call last):
        ...
        ValueError: read_split: expected a split manifest, got no file at no/such/split.json. ...
    """
    file = Path(path)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise fail(
            "read_split", "a split manifest", f"no file at {file}", "Correct the path."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise fail("read_split", f"{file} as JSON", f"{type(error).__name__}: {error}") from error
    match content:
        case {
            "format": "clipreid_kit.split",
            "version": 1,
            "data": str(data),
            "rule": str(rule),
            "seed": int() | None as seed,
            "splits": dict(splits),
            "sha256": str(sha256),
            "identities": dict(identities),
        } if all(
            isinstance(keys, list) and all(isinstance(key, str) for key in keys)
            for keys in splits.values()
        ):
            parts = {name: tuple(keys) for name, keys in splits.items()}
            return SplitManifest(data, rule, seed, parts, sha256, identities)
    found = (
        ", ".join(f"{k}={v!r}" for k, v in content.items() if k in ("format", "version"))
        if isinstance(content, dict)
        else ""
    )
    got = found or "something else"
    raise fail(
        "read_split",
        f"a manifest of format {_FORMAT!r}, version 1, in {file}",
        got,
        "Was it written by write_split?",
    )


def apply_split(
    records: Sequence[ImageRecord],
    manifest: SplitManifest,
    *,
    root: str | os.PathLike[str] | None = None,
) -> list[ImageRecord]:
    """Give the records of a manifest's parts, each with the part's name as its split.

    Use it to repeat an experiment on another machine, where the data lie elsewhere: images are found by their
    paths below the folder that all records have in common.

    Args:
        records: The data that the split was made from. Others among them do no harm, but see ``root``.
        manifest: The split.
        root: Folder that the manifest's paths begin at; ``None`` means the deepest folder that holds every
            record's image. Say it if ``records`` are not those that the split was made from.

    Returns:
        Records ordered by part and then as in the manifest; an image that is in several parts occurs in each.

    Raises:
        ValueError: If images of the manifest are not among the records, or their identities are others than
            when the split was made.

    Example:
        >>> records = [ImageRecord("here/a.jpg", 1), ImageRecord("here/b.jpg", 2)]
        >>> from clipreid_kit.data import split_first_identities
        >>> manifest = split_first_identities(records)
        >>> moved = [ImageRecord("there/a.jpg", 1), ImageRecord("there/b.jpg", 2)]
        >>> [(record.path, record.split) for record in apply_split(moved, manifest)]
        [('there/a.jpg', 'train'), ('there/b.jpg', 'test')]
    """
    rows: dict[str, list[ImageRecord]] = {}
    for key, record in zip(keys_of("apply_split", records, root), records, strict=True):
        rows.setdefault(key, []).append(record)
    wanted = {key for keys in manifest.splits.values() for key in keys}
    missing = sorted(wanted - rows.keys())
    if missing:
        present = next(iter(rows), "none")
        got = f"{len(missing)} of {len(wanted)} not there, such as {missing[0]} (one that is: {present})"
        remedy = "Read the data that it names, or say by root= which folder the paths begin at."
        raise fail(
            "apply_split",
            f"the images of the split of {manifest.data!r} among the records",
            got,
            remedy,
        )
    if (
        manifest.sha256
        and checksum({key: rows[key][0].identity for key in wanted}) != manifest.sha256
    ):
        remedy = "The data were changed since, or are others: make the split anew."
        raise fail(
            "apply_split",
            f"the identities that {manifest.data!r} had",
            "others for the same images",
            remedy,
        )
    return [
        _placed(record, name, manifest.identities.get(key, record.identity))
        for name, keys in manifest.splits.items()
        for key in keys
        for record in rows[key]
    ]


def _placed(record: ImageRecord, split: str, identity: int | str) -> ImageRecord:
    # Not replace: ten splits of a large gallery are a million records, and this takes a third of its time.
    return ImageRecord(
        record.path, identity, record.camera, record.view, record.caption, split, record.extra
    )


def checksum(identities: Mapping[str, int | str]) -> str:
    """Hash paths and identities, in sorted order."""
    digest = hashlib.sha256()
    for key in sorted(identities):
        digest.update(json.dumps([key, identities[key]]).encode())
    return digest.hexdigest()


_FORMAT = "clipreid_kit.split"

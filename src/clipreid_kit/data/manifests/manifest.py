"""A split as a file: the images of each part, the rule and seed of the split, and its data."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from clipreid_kit import _read_files
from clipreid_kit._checks import fail, shown
from clipreid_kit._files import reason_of, write_whole
from clipreid_kit._read_files import describe_error
from clipreid_kit.data.files.write_target import check_target
from clipreid_kit.data.manifests._image_keys import keys_of
from clipreid_kit.data.records import ImageRecord

_FORMAT = "clipreid_kit.split"
_VERSION = 1


@dataclass(frozen=True, slots=True, repr=False)
class SplitManifest:
    """A split: the names of images, not copies of them, and where the split comes from.

    An image may be in several parts: ten random query and gallery splits form one manifest.

    Attributes:
        data: Name of the data that was split.
        rule: The rule of the split, in words.
        seed: Seed of its random choices; ``None`` if there were none.
        splits: The images of each part, by their paths below the data's folder, with ``/``.
        sha256: Checksum of these images' paths and identities in the data.
        identities: Identities that some images have only in this split, such as distractors that
            must match no query.

    Example:
        >>> manifest = SplitManifest("photos", "by hand", None, {"train": ("a.jpg",)}, "")
        >>> manifest.splits["train"]
        ('a.jpg',)
        >>> manifest
        SplitManifest(data='photos', rule='by hand', seed=None, splits={'train': 1})
    """

    data: str
    rule: str
    seed: int | None
    splits: Mapping[str, Sequence[str]]
    sha256: str
    identities: Mapping[str, int | str] = field(default_factory=dict)

    def __repr__(self) -> str:
        sizes = [f"{name!r}: {len(keys)}" for name, keys in self.splits.items()]
        if len(sizes) > 6:
            sizes = [*sizes[:6], f"... {len(sizes) - 6} more"]

        options = f"data={self.data!r}, rule={self.rule!r}, seed={self.seed}"
        return f"SplitManifest({options}, splits={{{', '.join(sizes)}}})"


def write_split(manifest: SplitManifest, path: str | os.PathLike[str]) -> None:
    """Write a manifest as JSON for :func:`read_split`.

    Use it to store a split beside results, or to share it. The file appears whole or not at all.

    Args:
        manifest: The manifest to write.
        path: Target file, such as ``split.json``; its folder must exist, an existing file is
            replaced.

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
    # Not asdict, which copies every name.
    content: dict[str, object] = {"format": _FORMAT, "version": _VERSION}
    content |= {one.name: getattr(manifest, one.name) for one in fields(manifest)}

    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    check_target("write_split", path)
    try:
        write_whole(Path(path), text.encode())
    except OSError as error:
        raise ValueError(f"write_split: cannot write {path}: {reason_of(error)}.") from error


def read_split(path: str | os.PathLike[str]) -> SplitManifest:
    """Read a manifest that :func:`write_split` wrote.

    Use it before :func:`apply_split`.

    Args:
        path: The JSON file.

    Returns:
        The manifest, equal to the one that was written.

    Raises:
        ValueError: If the file is missing, is not JSON, or is not a manifest of a known version.

    Example:
        >>> read_split("no/such/split.json")
        Traceback (most recent call last):
        ...
        ValueError: read_split: there is no file no/such/split.json. Correct the path.
    """
    file = Path(path)
    try:
        content = _read_files.read_json(file)
    except FileNotFoundError as error:
        raise ValueError(f"read_split: there is no file {file}. Correct the path.") from error
    except (OSError, ValueError) as error:
        cause = describe_error(error)
        raise ValueError(f"read_split: {file} is not readable as JSON ({cause}).") from error

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
        } if all(_is_list_of_names(keys) for keys in splits.values()):
            parts = {name: tuple(keys) for name, keys in splits.items()}
            return SplitManifest(data, rule, seed, parts, sha256, identities)

    raise fail(
        "read_split",
        f"a manifest of format {_FORMAT!r}, version {_VERSION}, in {file}",
        _described(content),
        "Was it written by write_split?",
    )


def apply_split(
    records: Sequence[ImageRecord],
    manifest: SplitManifest,
    *,
    root: str | os.PathLike[str] | None = None,
) -> list[ImageRecord]:
    """Select the records of a manifest's parts, each with the name of its part as its split.

    Use it to repeat an experiment on another machine, with the data in another place: images are
    found by their paths below the folder that all records share.

    Args:
        records: The data that were split. Further records do no harm, but see ``root``.
        manifest: The split.
        root: Folder that the manifest's paths are relative to; ``None`` means the deepest folder
            that holds every record's image. Pass it if ``records`` are not exactly those that were
            split.

    Returns:
        Records ordered by part and then as in the manifest; an image that is in several parts
        occurs in each.

    Raises:
        ValueError: If images of the manifest are not among the records, or had other identities
            when the split was made.

    Example:
        >>> records = [ImageRecord("here/a.jpg", 1), ImageRecord("here/b.jpg", 2)]
        >>> from clipreid_kit.data import split_first_identities
        >>> manifest = split_first_identities(records)
        >>> moved = [ImageRecord("there/a.jpg", 1), ImageRecord("there/b.jpg", 2)]
        >>> [(record.path, record.split) for record in apply_split(moved, manifest)]
        [('there/a.jpg', 'train'), ('there/b.jpg', 'test')]
    """
    records_by_key: dict[str, list[ImageRecord]] = {}
    for key, record in zip(keys_of("apply_split", records, root), records, strict=True):
        records_by_key.setdefault(key, []).append(record)
    _check_same_data(records_by_key, manifest)

    applied = []
    for split, keys in manifest.splits.items():
        for key in keys:
            for record in records_by_key[key]:
                identity = manifest.identities.get(key, record.identity)
                applied.append(_with_split(record, split, identity))

    return applied


def checksum(identities: Mapping[str, int | str]) -> str:
    """Hash paths and identities, in sorted order."""
    digest = hashlib.sha256()
    for key in sorted(identities):
        digest.update(json.dumps([key, identities[key]]).encode())

    return digest.hexdigest()


def _check_same_data(
    records_by_key: Mapping[str, Sequence[ImageRecord]], manifest: SplitManifest
) -> None:
    """Raise ValueError if images of the manifest are missing or have other identities."""
    wanted = {key for keys in manifest.splits.values() for key in keys}
    missing = sorted(wanted - records_by_key.keys())
    if missing:
        present = next(iter(records_by_key), "none")
        raise ValueError(
            f"apply_split: {len(missing)} of {len(wanted)} images of the split of "
            f"{manifest.data!r} are not among the records, such as {missing[0]} (a record's image: "
            f"{present}). Read the data that the split names, or pass root=, the folder that its "
            "paths begin at."
        )

    if not manifest.sha256:
        return

    identity_of = {key: records_by_key[key][0].identity for key in wanted}
    if checksum(identity_of) != manifest.sha256:
        raise ValueError(
            f"apply_split: images of {manifest.data!r} have other identities than when the split "
            "was made. The data were changed or replaced: split them again."
        )


def _with_split(record: ImageRecord, split: str, identity: int | str) -> ImageRecord:
    # Not replace: ten splits of a large gallery are a million records, and this is three times as
    # fast.
    return ImageRecord(
        record.path,
        identity,
        record.camera,
        record.view,
        record.caption,
        split,
        record.extra,
        record.modality,
        record.tracklet,
        record.frame,
    )


def _is_list_of_names(keys: object) -> bool:
    return isinstance(keys, list) and all(isinstance(key, str) for key in keys)


def _described(content: object) -> str:
    """Name the format and version of another JSON file, as far as it has them."""
    if isinstance(content, dict):
        found = [
            f"{name}={shown(content[name])}" for name in ("format", "version") if name in content
        ]
        if found:
            return ", ".join(found)

    return "something else"

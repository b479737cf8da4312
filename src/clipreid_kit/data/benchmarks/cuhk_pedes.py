"""CUHK-PEDES: persons described in sentences."""

import os
from typing import Literal, NamedTuple, TypeGuard

from clipreid_kit._checks import check_choice, shown
from clipreid_kit._read_files import InvalidJsonError, parse_json
from clipreid_kit.data.benchmarks._listed_images import require_images
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.records import ImageRecord

_LAYOUT = "CUHK-PEDES's imgs and reid_raw.json"
_FILE = "reid_raw.json"
_OFFICIAL = {"train": (34054, 11003), "val": (3078, 1000), "test": (3074, 1000)}


def read_cuhk_pedes(
    path: str | os.PathLike[str],
    *,
    captions: Literal["first", "each"] = "first",
    counts: Policy = "warn",
) -> list[ImageRecord]:
    """Read ``CUHK-PEDES/imgs/**`` with the captions and splits of ``reid_raw.json``.

    Use it for text-to-image person search. A zip archive is read in place.

    Args:
        path: The folder or zip archive, or a folder above it.
        captions: ``"first"`` returns a record for each image, with its further captions in
            ``extra`` as ``caption_2``, ``caption_3``, ...; ``"each"`` returns a record for each
            caption, so that an image occurs as often as it has captions.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (34,054 images, 11,003 identities), ``val`` (3,078, 1,000) and
        ``test`` (3,074, 1,000), in the order of the file. Identities are integers; there are no
        cameras.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            an entry lacks a key, an image is missing, or the numbers differ and ``counts="raise"``.

    Example:
        >>> read_cuhk_pedes("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_cuhk_pedes: there is nothing at no/such/folder; expected ...
    """
    check_policy("read_cuhk_pedes", counts)
    check_choice("read_cuhk_pedes", "captions", captions, ("first", "each"))
    tree, _ = locate("read_cuhk_pedes", path, [("imgs",), (_FILE,)], _LAYOUT)

    entries = _read_entries(tree)
    require_images("read_cuhk_pedes", tree, [entry.image for entry in entries], _FILE)

    records = [_record_of_image(tree, entry) for entry in entries]
    check_counts("read_cuhk_pedes", records, _OFFICIAL, counts)
    if captions == "first":
        return records

    by_caption = []
    for entry in entries:
        for caption in entry.captions:
            path_of_image = tree.path(entry.image)
            by_caption.append(
                ImageRecord(path_of_image, entry.identity, caption=caption, split=entry.split)
            )
    return by_caption


class _Entry(NamedTuple):
    """An entry of the annotation file."""

    image: str
    identity: int
    split: str
    captions: list[str]


def _record_of_image(tree: FileTree, entry: _Entry) -> ImageRecord:
    """Build one record of an image with all its captions."""
    further = enumerate(entry.captions[1:], start=2)
    return ImageRecord(
        tree.path(entry.image),
        entry.identity,
        caption=entry.captions[0],
        split=entry.split,
        extra={f"caption_{number}": text for number, text in further},
    )


def _read_entries(tree: FileTree) -> list[_Entry]:
    """Read all entries of the annotation file."""
    try:
        content = parse_json(tree.text("read_cuhk_pedes", _FILE))
    except InvalidJsonError as error:
        raise ValueError(
            f"read_cuhk_pedes: {_FILE} is not valid JSON: {error}. Download it again."
        ) from error

    if not isinstance(content, list) or not content:
        raise ValueError(
            f"read_cuhk_pedes: {_FILE} has to hold a list of entries, and holds "
            f"{'an empty list' if content == [] else type(content).__name__}. Download it again."
        )
    return [_entry(value, number) for number, value in enumerate(content, start=1)]


def _entry(value: object, number: int) -> _Entry:
    """Check one entry of the file."""
    if isinstance(value, dict):
        image = value.get("file_path")
        identity = value.get("id")
        split = value.get("split")
        captions = value.get("captions")

        has_names = isinstance(image, str) and isinstance(split, str)
        if has_names and isinstance(identity, int) and _are_captions(captions):
            return _Entry(f"imgs/{image}", identity, str(split), captions)

    raise ValueError(
        f"read_cuhk_pedes: entry {number} of {_FILE} is {shown(value)}; expected file_path, "
        "id, split and captions. Download it again."
    )


def _are_captions(value: object) -> TypeGuard[list[str]]:
    """Return whether a value is a list of strings, at least one."""
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(caption, str) for caption in value)

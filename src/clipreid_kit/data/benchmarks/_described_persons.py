"""The JSON list that sets of described persons have in common: image, identity, split, captions."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeGuard

from clipreid_kit._checks import check_choice, shown
from clipreid_kit._read_files import InvalidJsonError, parse_json
from clipreid_kit.data.benchmarks._listed_images import require_images
from clipreid_kit.data.files.file_tree import FileTree
from clipreid_kit.data.further_captions import further_captions, records_by_caption
from clipreid_kit.data.records import ImageRecord

Captions = Literal["first", "each"]

IMAGES = "imgs"


def check_captions(owner: str, captions: str) -> None:
    """Require a known choice of captions, before anything is read."""
    check_choice(owner, "captions", captions, ("first", "each"))


def chosen_captions(records: list[ImageRecord], captions: Captions) -> list[ImageRecord]:
    """Return a record for each image, or for each caption."""
    return records if captions == "first" else records_by_caption(records)


def read_described_persons(
    owner: str,
    tree: FileTree,
    file: str,
    *,
    image_key: str = "file_path",
    camera: re.Pattern[str] | None = None,
) -> list[ImageRecord]:
    """Read a record of each image in the list, in its order, and check that the images exist.

    Args:
        owner: The reader, for errors.
        tree: The folder or archive of the set.
        file: Name of the list.
        image_key: Key of an image's path below ``imgs``.
        camera: Finds the number of the camera, a group ``camera``, in a file name; ``None`` for
            sets without cameras. A name of another form has no camera.
    """
    entries = []
    for number, value in enumerate(_read_list(owner, tree, file), start=1):
        entry = _entry(value, image_key)
        if entry is None:
            raise ValueError(
                f"{owner}: entry {number} of {file} is {shown(value)}; expected {image_key}, "
                "id, split and captions. Download it again."
            )
        entries.append(entry)

    require_images(owner, tree, [entry.image for entry in entries], file)
    return [_record(tree, entry, camera) for entry in entries]


class _Entry(NamedTuple):
    """An entry of the list."""

    image: str
    identity: int
    split: str
    captions: list[str]


def _record(tree: FileTree, entry: _Entry, camera: re.Pattern[str] | None) -> ImageRecord:
    """Build the record of an image, with all its captions."""
    found = None if camera is None else camera.search(entry.image)
    return ImageRecord(
        tree.path(entry.image),
        entry.identity,
        camera=None if found is None else int(found["camera"]),
        caption=entry.captions[0],
        split=entry.split,
        extra=further_captions(entry.captions),
    )


def _read_list(owner: str, tree: FileTree, file: str) -> Sequence[object]:
    """Read the list."""
    try:
        content = parse_json(tree.text(owner, file))
    except InvalidJsonError as error:
        raise ValueError(
            f"{owner}: {file} is not valid JSON: {error}. Download it again."
        ) from error

    if not isinstance(content, list) or not content:
        found = "an empty list" if content == [] else type(content).__name__
        raise ValueError(
            f"{owner}: {file} has to hold a list of entries, and holds {found}. Download it again."
        )
    return content


def _entry(value: object, image_key: str) -> _Entry | None:
    """Check an entry of the list; ``None`` if it has another form."""
    if not isinstance(value, dict):
        return None

    image, identity = value.get(image_key), value.get("id")
    split, captions = value.get("split"), value.get("captions")
    has_names = isinstance(image, str) and isinstance(split, str)
    if not has_names or not _are_captions(captions):
        return None
    if not isinstance(identity, int) or isinstance(identity, bool):
        return None
    return _Entry(f"{IMAGES}/{image}", identity, str(split), captions)


def _are_captions(value: object) -> TypeGuard[list[str]]:
    """Return whether a value is a list of strings, at least one."""
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(caption, str) for caption in value)

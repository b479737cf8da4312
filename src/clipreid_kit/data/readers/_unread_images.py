"""Warning about images of formats that are not read."""

import warnings
from collections.abc import Sequence

from clipreid_kit.data.files.file_tree import IMAGE_SUFFIXES

_UNREAD_SUFFIXES = (
    ".heic",
    ".heif",
    ".avif",
    ".gif",
    ".jp2",
    ".jfif",
    ".jxl",
    ".dng",
    ".cr2",
    ".nef",
    ".arw",
)


_ARCHIVE_SUFFIXES = (
    ".7z",
    ".bz2",
    ".gz",
    ".rar",
    ".tar",
    ".tgz",
    ".xz",
    ".zip",
    ".zst",
)


def is_archive(name: str) -> bool:
    """Return whether a file is an archive, which may be full of images."""
    return name.lower().endswith(_ARCHIVE_SUFFIXES) and not name.startswith(".")


def warn_of_packed_images(owner: str, names: Sequence[str]) -> None:
    """Warn the caller's caller about archives among the images, which are not read."""
    if not names:
        return

    more = ", ..." if len(names) > 3 else ""
    warnings.warn(
        f"{owner}: archives among the images are not read: {', '.join(names[:3])}{more}. Unpack "
        "them, or move them away.",
        stacklevel=3,
    )


def is_unread_image(name: str) -> bool:
    """Return whether a file is an image of a format that is not read."""
    return name.lower().endswith(_UNREAD_SUFFIXES)


def warn_of_unread_images(owner: str, names: Sequence[str]) -> None:
    """Warn the caller's caller about unread images: half of a phone's images may be among them."""
    if not names:
        return

    more = ", ..." if len(names) > 3 else ""
    warnings.warn(
        f"{owner}: left out {len(names)} images that do not end in {', '.join(IMAGE_SUFFIXES)}: "
        f"{', '.join(names[:3])}{more}. Convert them, or list those that Pillow can read in a "
        "table.",
        stacklevel=3,
    )

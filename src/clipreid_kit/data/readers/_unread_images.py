"""Warning about images of formats that are not read."""

import warnings
from collections.abc import Sequence

from clipreid_kit.data.files.image_suffixes import HEIF_SUFFIXES, decodable_suffixes

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


def is_unread_image(name: str) -> bool:
    """Return whether a file is an image of a format that is not read."""
    suffixes = decodable_suffixes()
    return name.lower().endswith(_UNREAD_SUFFIXES) and not name.lower().endswith(suffixes)


def warn_of_unread_images(owner: str, names: Sequence[str]) -> None:
    """Warn the caller's caller about unread images: half of a phone's images may be among them."""
    if not names:
        return

    more = ", ..." if len(names) > 3 else ""
    remedy = "Convert them, or list those that Pillow can read in a table."
    if any(name.lower().endswith(HEIF_SUFFIXES) for name in names):
        remedy = "Install pillow-heif (pip install clipreid_kit[heic]) for HEIC, or convert them."
    suffixes = ", ".join(decodable_suffixes())
    warnings.warn(
        f"{owner}: left out {len(names)} images that do not end in {suffixes}: "
        f"{', '.join(names[:3])}{more}. {remedy}",
        stacklevel=3,
    )

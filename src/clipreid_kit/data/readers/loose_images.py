"""Records of every image below a folder, whatever the folders mean."""

import os

from clipreid_kit.data.files.file_tree import is_image, open_tree
from clipreid_kit.data.files.image_suffixes import IMAGE_SUFFIXES
from clipreid_kit.data.readers._unread_images import is_unread_image, warn_of_unread_images
from clipreid_kit.data.records import ImageRecord

_OWNER = "read_images"


def read_images(root: str | os.PathLike[str]) -> list[ImageRecord]:
    """Read every image below a folder, for a gallery to search.

    Use it for photographs without identities. Files are found and left out as by
    :func:`read_folder`; where folders or names say who is in an image, use that.

    Args:
        root: The folder, or a zip archive, which is read in place.

    Returns:
        One record for each image, ordered by path. ``identity`` is the folder of the image
        relative to ``root``, with ``/``; ``.`` directly below ``root``.

    Raises:
        ValueError: If the folder is missing, or holds no image.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("a.jpg", "2026/may/b.jpg"):
        ...         file = pathlib.Path(root, name)
        ...         file.parent.mkdir(parents=True, exist_ok=True)
        ...         file.touch()
        ...     [record.identity for record in read_images(root)]
        ['2026/may', '.']
    """
    tree = open_tree(_OWNER, root, "images")
    warn_of_unread_images(_OWNER, [name for name in tree.names if is_unread_image(name)])

    images = [name for name in tree.names if is_image(name)]
    if not images:
        raise ValueError(
            f"{_OWNER}: none of the {len(tree.names)} files in {root} is an image. Images end in "
            f"{', '.join(IMAGE_SUFFIXES)}."
        )
    return [ImageRecord(tree.path(name), name.rpartition("/")[0] or ".") for name in images]

"""Images of equal pixels, and images that look alike, such as one image in two file formats."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipreid_kit.data.files.archives import UnreadableFileError
from clipreid_kit.data.images.load_image import load_image

# An image in small: the mean colours of 8 x 8 parts.
_PARTS = 8

# In levels of 0 to 255, root mean square over the parts. JPEG of a usual quality changes the means
# by about one level.
_MOST_CHANGE = 3.0

# Images with less contrast than this look alike whatever they show.
_LEAST_CONTRAST = 8.0

_BLOCK = 1024

Thumbnails = npt.NDArray[np.float32]


class ImageLook(NamedTuple):
    """Values of a decoded image that are compared.

    Attributes:
        pixels: Digest of its size and pixels.
        thumbnail: Mean colours of its parts.
    """

    pixels: bytes
    thumbnail: bytes


def look_at(path: str) -> ImageLook | str:
    """Decode an image; return the reason if that fails."""
    try:
        image = load_image(path)
    except UnreadableFileError as error:
        return error.reason

    digest = hashlib.blake2b(f"{image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    small = image.resize((_PARTS, _PARTS), Image.Resampling.BOX)
    return ImageLook(digest.digest(), small.tobytes())


def group_equal_images(
    groups: Iterable[Sequence[str]], looks: Mapping[str, ImageLook]
) -> list[list[str]]:
    """Join groups of equal files with paths whose pixels are equal."""
    joined = _Groups()
    for group in groups:
        joined.join(group)

    paths_of_pixels: dict[bytes, list[str]] = {}
    for path, look in looks.items():
        paths_of_pixels.setdefault(look.pixels, []).append(path)
    for paths in paths_of_pixels.values():
        joined.join(paths)

    return joined.of_several()


class _Groups:
    """Groups of names, of which any two that share a name are one."""

    def __init__(self) -> None:
        self._group_of: dict[str, list[str]] = {}

    def join(self, names: Sequence[str]) -> None:
        """Put names into one group, with all that are in a group with one of them."""
        first = self._group_of.setdefault(names[0], [names[0]])
        for name in names[1:]:
            other = self._group_of.get(name, [name])
            if other is not first:
                first.extend(other)
                self._group_of.update(dict.fromkeys(other, first))

    def of_several(self) -> list[list[str]]:
        """Return the groups of two names and more."""
        unique = {id(group): group for group in self._group_of.values()}
        return [group for group in unique.values() if len(group) > 1]


def near_pairs(
    first: Sequence[str], second: Sequence[str], looks: Mapping[str, ImageLook]
) -> Iterator[tuple[str, str]]:
    """Yield each image of the first list that looks like one of the second, with the nearest one.

    Images of equal pixels are left out, and so are those with little contrast.
    """
    left_paths, left = _with_contrast(first, looks)
    right_paths, right = _with_contrast(second, looks)

    for start in range(0, len(left) if right_paths else 0, _BLOCK):
        block = left[start : start + _BLOCK]
        columns, distances = _nearest(block, right)
        for row in np.nonzero(distances <= _MOST_CHANGE**2 * left.shape[1])[0].tolist():
            one, other = left_paths[start + row], right_paths[int(columns[row])]
            if looks[one].pixels != looks[other].pixels:
                yield one, other


def _with_contrast(
    paths: Sequence[str], looks: Mapping[str, ImageLook]
) -> tuple[list[str], Thumbnails]:
    """Return the thumbnails that are not flat, as rows, with their paths."""
    known = [path for path in dict.fromkeys(paths) if path in looks]
    content = b"".join(looks[path].thumbnail for path in known)
    colours = np.frombuffer(content, dtype=np.uint8).reshape(len(known), _PARTS**2, 3)

    # Contrast between the parts, not between the channels of a flat colour.
    has_contrast = colours.std(axis=1).max(axis=1, initial=0) >= _LEAST_CONTRAST
    kept = [path for path, kept in zip(known, has_contrast.tolist(), strict=True) if kept]
    rows = colours[has_contrast].reshape(len(kept), 3 * _PARTS**2).astype(np.float32)
    return kept, rows - 128


def _nearest(
    left: Thumbnails, right: Thumbnails
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return the nearest row on the right of each row on the left, and its squared distance."""
    nearest = np.zeros(len(left), dtype=np.int64)
    smallest = np.full(len(left), np.inf, dtype=np.float32)
    left_squares = (left**2).sum(axis=1)[:, None]

    for begin in range(0, len(right), _BLOCK):
        block = right[begin : begin + _BLOCK]
        distances = left_squares + (block**2).sum(axis=1)[None, :] - 2 * (left @ block.T)
        columns = distances.argmin(axis=1)
        values = distances[np.arange(len(left)), columns]

        is_nearer = values < smallest
        nearest[is_nearer] = begin + columns[is_nearer]
        smallest[is_nearer] = values[is_nearer]
    return nearest, smallest

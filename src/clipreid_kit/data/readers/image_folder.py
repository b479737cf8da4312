"""Records from a folder of images: by identity folders, or by a pattern in their paths."""

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from clipreid_kit._checks import check_choice, fail, shown
from clipreid_kit._read_files import is_file
from clipreid_kit.data.files.file_tree import open_tree
from clipreid_kit.data.readers._files_by_pattern import records_by_pattern
from clipreid_kit.data.readers._identity_folders import (
    FoundImage,
    find_in_archive,
    find_in_folder,
)
from clipreid_kit.data.readers._integer_columns import integers_if_all
from clipreid_kit.data.readers._near_names import warn_of_near_names
from clipreid_kit.data.readers._path_pattern import (
    Expression,
    bounded,
    check_length,
    compile_pattern,
    search_path,
)
from clipreid_kit.data.readers._split_names import is_split_name
from clipreid_kit.data.readers._unread_images import (
    is_unread_image,
    warn_of_packed_images,
    warn_of_unread_images,
)
from clipreid_kit.data.records import ImageRecord


def read_folder(
    root: str | os.PathLike[str],
    *,
    split: str | None = None,
    splits: Sequence[str] | None = None,
    camera_pattern: str | None = None,
    pattern: str | re.Pattern[str] | None = None,
    unmatched: Literal["raise", "skip"] = "raise",
) -> list[ImageRecord]:
    r"""Read images from identity folders, or with the identity in their names.

    Use it for your own images: put the images of each identity into a folder of its name
    (``root/<identity>/**/<image>``, or ``root/<split>/<identity>/**/<image>``), or describe by
    ``pattern`` where their paths contain the identity. Images are files that end in jpg, jpeg, png,
    bmp, webp, tif or tiff, in any case. Other files, and names that begin with a dot, are ignored.
    A warning names images that are left out because they end otherwise (heic, avif, gif and
    others). Links are followed. Folders that systems add (``@eaDir``, ``__MACOSX``) are left out.

    Warnings also name folders such as ``train`` and ``query_images`` that are read as identities,
    folders such as ``Query`` beside a split ``query``, archives among the images, which are not
    read, and identities, cameras and splits that differ only in case, white space or Unicode form.

    A template is matched with the whole path of a file below ``root``. ``{identity}``,
    ``{camera}``, ``{view}``, ``{split}``, ``{caption}``, ``{modality}``, ``{tracklet}`` and
    ``{frame}`` fill the record, any other name goes to ``extra``; ``*`` is any text without ``/``,
    ``**`` any text, ``?`` one character. A field takes as few characters as it can, and directly
    before a wildcard a whole run of digits or of letters: ``c{camera}*`` finds 12 in ``c12s1``. If
    the camera can be a number in every path, it is one: ``{identity}_c{camera}*`` finds rex_cute
    and 2 in ``rex_cute_c2_01``. A regular expression is searched for in that path (with ``/`` on
    every system), and its named groups are the fields.

    Args:
        root: The folder of identity folders, or of split folders if ``splits`` is given; or a zip
            archive of it, which is read in place. A folder that holds everything else in an archive
            is ignored.
        split: Name of the split of every record; ``None`` for none. Not together with ``splits``.
        splits: Names of the split folders to read, such as ``("train", "query", "gallery")``, in
            this order. ``None`` means that ``root`` holds the identity folders.
        camera_pattern: Regular expression with a group named ``camera``, searched for in the name
            of every file, such as ``r"_c(?P<camera>\d+)"``. Cameras become integers if every one is
            an integer literal (``01`` is not), and stay strings otherwise. ``None`` means unknown
            cameras.
        pattern: A template such as ``"{identity}_c{camera}*.jpg"``, or a compiled regular
            expression with a group named ``identity``. ``None`` means that folders are identities.
            Not together with ``splits`` and ``camera_pattern``.
        unmatched: Whether images that do not match ``pattern`` are an error (``"raise"``), or left
            out (``"skip"``).

    Returns:
        One record for each image, ordered by split, identity and path (with ``pattern`` by path);
        the same list on every machine. ``identity`` is always a string; paths begin with ``root``
        as it was given.

    Raises:
        ValueError: If a folder is missing or has no identity folders, an identity folder holds no
            image, an image is outside an identity folder, a pattern lacks its field or is not a
            regular expression or takes very long, the name of a file does not match it, or a
            template finds other fields with a number as the camera in some names only.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("rex/1_c1.jpg", "rex/2_c2.jpg", "tom/1_c1.jpg"):
        ...         file = pathlib.Path(root, name)
        ...         file.parent.mkdir(exist_ok=True)
        ...         file.touch()
        ...     records = read_folder(root, split="train", camera_pattern=r"_c(?P<camera>\d+)")
        >>> [(record.identity, record.camera) for record in records]
        [('rex', 1), ('rex', 2), ('tom', 1)]

        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("0002_c1s1_01.jpg", "0007_c12s1_07.jpg"):
        ...         pathlib.Path(root, name).touch()
        ...     records = read_folder(root, pattern="{identity}_c{camera}*.jpg")
        >>> [(record.identity, record.camera) for record in records]
        [('0002', 1), ('0007', 12)]
    """
    if pattern is not None:
        _check_pattern_options(splits, camera_pattern, unmatched)
        compiled = compile_pattern("read_folder", pattern)
        if split is not None and "split" in compiled.expression.groupindex:
            raise ValueError("read_folder: pass either split, or {split} in the pattern, not both.")

        tree = open_tree("read_folder", root, "images")
        records = records_by_pattern("read_folder", tree, compiled, split, unmatched)
        unread = [name for name in tree.names if is_unread_image(name)]
        warn_of_unread_images("read_folder", unread)
        warn_of_near_names("read_folder", records)
        return records

    _check_splits(split, splits)
    camera_expression = None if camera_pattern is None else _compile_camera(camera_pattern)

    if is_file(root) and Path(root).suffix.lower() == ".zip":
        found = find_in_archive("read_folder", root, split, splits)
    else:
        found = find_in_folder("read_folder", Path(root), split, splits)
    warn_of_unread_images("read_folder", found.unread)
    warn_of_packed_images("read_folder", found.packed)

    if splits is None:
        _warn_of_splits_as_identities(found.images)

    cameras = _cameras(found.images, camera_expression)
    records = [
        ImageRecord(image.path, image.identity, camera=camera, split=image.split)
        for image, camera in zip(found.images, cameras, strict=True)
    ]
    warn_of_near_names("read_folder", records)
    return records


def _warn_of_splits_as_identities(images: Sequence[FoundImage]) -> None:
    """Warn if folders that are read as identities have the names of splits."""
    identities = {image.identity for image in images}
    named = sorted(name for name in identities if is_split_name(name))

    # A single one among others may be the name of a dog, unless there are folders in it.
    has_folders = any(
        image.identity in named and Path(image.path).parent.name != image.identity
        for image in images
    )
    if len(named) > 1 or has_folders or (named and len(named) == len(identities)):
        warnings.warn(
            f"read_folder: the folders {', '.join(named)} have the names of splits, and are read "
            f"as identities. Pass splits={tuple(named)} to read the folders in them as identities.",
            stacklevel=3,
        )


def _check_pattern_options(
    splits: Sequence[str] | None, camera_pattern: str | None, unmatched: str
) -> None:
    """Check the options beside a pattern."""
    check_choice("read_folder", "unmatched", unmatched, ("raise", "skip"))
    if splits is not None or camera_pattern is not None:
        raise ValueError(
            "read_folder: pattern cannot be combined with splits or camera_pattern. Write {split} "
            "and {camera} into the pattern."
        )


def _check_splits(split: str | None, splits: Sequence[str] | None) -> None:
    """Check that at most one of both is given, and that ``splits`` is a sequence of names."""
    if split is not None and splits is not None:
        raise ValueError(
            "read_folder: pass either split or splits, not both. With splits, the split of a "
            "record is the name of its folder."
        )
    if isinstance(splits, str) or (splits is not None and not splits):
        expected = "splits as a sequence of folder names"
        remedy = "One folder: splits=('train',)."
        raise fail("read_folder", expected, shown(splits), remedy)
    if splits is not None and len(set(splits)) < len(splits):
        remedy = "Each image would be read more than once."
        raise fail("read_folder", "every split once", shown(tuple(splits)), remedy)


def _compile_camera(camera_pattern: str) -> Expression:
    """Compile ``camera_pattern``; check that it has a group named camera."""
    check_length("read_folder", camera_pattern)
    try:
        expression = re.compile(camera_pattern)
    except re.error as error:
        raise ValueError(
            f"read_folder: camera_pattern {camera_pattern!r} is not a regular expression: {error}."
        ) from error

    if "camera" not in expression.groupindex:
        raise ValueError(
            f"read_folder: camera_pattern {camera_pattern!r} has no group named camera. Write the "
            r"part of the camera as (?P<camera>\d+)."
        )
    return bounded(expression)


def _cameras(
    images: Sequence[FoundImage], expression: Expression | None
) -> Sequence[int | str | None]:
    """Return the camera of each image; ``None`` for all if there is no expression."""
    if expression is None:
        return [None] * len(images)

    names = []
    for image in images:
        match = search_path("read_folder", expression, Path(image.path).name)
        if match is None or not match["camera"]:
            raise ValueError(
                f"read_folder: {image.path} does not match camera_pattern {expression.pattern!r}. "
                "Widen the pattern, or leave camera_pattern out if cameras are unknown."
            )
        names.append(match["camera"])
    return integers_if_all(names)

"""Check that no query finds itself in the gallery."""

from collections.abc import Iterable, Mapping, Sequence

from clipreid_kit.data.records import ImageRecord, check_records
from clipreid_kit.data.validation.equal_files import group_equal_files

_OWNER = "check_shared_images"


def check_shared_images(
    query: Sequence[ImageRecord], gallery: Sequence[ImageRecord], *, cameras: bool | None = None
) -> None:
    """Check that query and gallery share no image, unless the camera rule leaves it out.

    Use it before an evaluation with your own queries and gallery. A query whose own image is in
    the gallery finds it first, whatever the model is worth: Rank-1 is then 100 %. An image is
    shared if both sides name one file, or if files of one identity have equal bytes. Only files of
    equal size are read.

    Args:
        query: The query images.
        gallery: The gallery images.
        cameras: Whether gallery images of the query's identity and camera are left out. ``None``
            means that they are if every record has a camera, as :func:`evaluation_ids` does.

    Raises:
        ValueError: If images are shared; the message counts them and names the first.

    Example:
        >>> check_shared_images([ImageRecord("a.jpg", 7)], [ImageRecord("a.jpg", 7)])
        Traceback (most recent call last):
        ...
        ValueError: check_shared_images: 1 of 1 query images is also in the gallery (a.jpg), ...
    """
    check_records(_OWNER, (*query, *gallery))
    if cameras is None:
        cameras = all(record.camera is not None for side in (query, gallery) for record in side)

    in_gallery: dict[str, list[ImageRecord]] = {}
    for record in gallery:
        in_gallery.setdefault(record.path, []).append(record)
    equal_paths = _equal_paths(record.path for side in (query, gallery) for record in side)

    shared = []
    for record in query:
        copies = _copies(record, in_gallery, equal_paths)
        if cameras:
            copies = [copy for copy in copies if not _is_left_out(record, copy)]
        if copies:
            shared.append(record.path)

    if shared:
        more = ", ..." if len(shared) > 1 else ""
        verb = "is" if len(shared) == 1 else "are"
        raise ValueError(
            f"{_OWNER}: {len(shared)} of {len(query)} query images {verb} also in the gallery "
            f"({shared[0]}{more}), where each finds itself. Remove them from one side, or give all "
            "records cameras: gallery images of the query's identity and camera are left out."
        )


def _copies(
    query: ImageRecord,
    in_gallery: Mapping[str, Sequence[ImageRecord]],
    equal_paths: Mapping[str, Sequence[str]],
) -> list[ImageRecord]:
    """Gallery images of a query's own file, or of its identity with equal bytes."""
    copies = list(in_gallery.get(query.path, ()))
    for path in equal_paths.get(query.path, ()):
        equal = in_gallery.get(path, ())
        copies += [copy for copy in equal if copy.identity == query.identity]
    return copies


def _equal_paths(paths: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """Other paths of equal bytes, by path."""
    equal: dict[str, list[str]] = {}
    for group in group_equal_files(dict.fromkeys(paths)):
        for path in group:
            equal[path] = [other for other in group if other != path]
    return equal


def _is_left_out(query: ImageRecord, copy: ImageRecord) -> bool:
    """Whether the camera rule leaves out a gallery image for a query."""
    same_camera = str(query.camera) == str(copy.camera)
    return same_camera and query.identity == copy.identity

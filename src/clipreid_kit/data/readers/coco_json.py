"""Records of the boxes in a JSON file of COCO's format."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from clipreid_kit import _read_files
from clipreid_kit._checks import check_choice, fail, shown
from clipreid_kit._read_files import describe_error
from clipreid_kit.data.files.boxes import four_numbers, with_box
from clipreid_kit.data.readers._extra_values import (
    captions_of,
    frame_number,
    further_captions,
    integer_or_name,
    is_blank,
    is_empty,
    optional_name,
    optional_text,
    text_of,
    texts_of_others,
)
from clipreid_kit.data.readers._near_names import warn_of_near_names
from clipreid_kit.data.readers._table_columns import warn_of_near_columns
from clipreid_kit.data.records import ImageRecord

_OWNER = "read_coco"
_FIELDS = ("camera", "view", "caption", "split", "modality", "tracklet", "frame")
# Outlines, sizes and numbers of COCO's own, which describe the box and not the individual.
_GEOMETRY = frozenset(
    {
        "id",
        "image_id",
        "category_id",
        "bbox",
        "segmentation",
        "area",
        "iscrowd",
        "keypoints",
        "num_keypoints",
        "attributes",
        "file_name",
        "width",
        "height",
        "license",
        "coco_url",
        "flickr_url",
    }
)

Object = Mapping[str, object]


def read_coco(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    identity: str = "identity",
    without_identity: Literal["raise", "skip"] = "raise",
) -> list[ImageRecord]:
    """Read the boxes of a JSON file in COCO's format, each as an image of its individual.

    Use it for detection or tracking data with identities, as annotation tools export them. The
    identity of a box is a key of its annotation, of the ``attributes`` of its annotation, or of its
    image, in this order; so are ``camera``, ``view``, ``caption``, ``split`` and ``modality``. The
    name of the category and all other keys go to ``extra``, without outlines and sizes.

    Args:
        path: The JSON file, with ``images``, ``annotations`` and, if ``identity`` is
            ``"category"``, ``categories``.
        root: Folder that file names of images start from. Defaults to the folder of the file.
        identity: The key that names the individual, such as ``"track_id"``; ``"category"`` for the
            name of the category, if each individual is a category.
        without_identity: Whether boxes without an identity are an error (``"raise"``), or left out
            (``"skip"``).

    Returns:
        One record for each annotation, in the order of the file. Its path ends in
        ``#xywh=left,top,width,height``, which :func:`load_image` understands; without ``bbox`` the
        record is of the whole image.

    Raises:
        ValueError: If the file is missing or not of COCO's format, an annotation names an image or
            category that is not there, a box holds no pixel, or boxes have no identity.

    Example:
        >>> import json, pathlib, tempfile
        >>> box = {"image_id": 5, "category_id": 1, "bbox": [10, 20, 30, 40], "track_id": 7}
        >>> content = {
        ...     "images": [{"id": 5, "file_name": "a.jpg"}],
        ...     "annotations": [box],
        ...     "categories": [{"id": 1, "name": "zebra"}],
        ... }
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "boxes.json")
        ...     _ = file.write_text(json.dumps(content))
        ...     (record,) = read_coco(file, root="images", identity="track_id")
        >>> record.path, record.identity, record.extra
        ('images/a.jpg#xywh=10,20,30,40', 7, {'category': 'zebra'})
    """
    check_choice(_OWNER, "without_identity", without_identity, ("raise", "skip"))
    file = Path(path)
    content = _read_object(file)
    images = _by_id(file, content, "images")
    categories = _by_id(file, content, "categories")
    base = file.parent if root is None else Path(root)

    annotations = _objects(file, content, "annotations")
    _check_distinct(file, annotations, "annotations")

    records = []
    bare: list[str] = []
    keys: dict[str, None] = {}  # in the order of their first occurrence
    for number, annotation in enumerate(annotations, start=1):
        where = f"annotation {number} of {file}"
        image = _named(images, annotation.get("image_id"), "image", where)
        values = _values(annotation, image, categories, where)
        keys |= dict.fromkeys(values)
        if is_blank(values.get(identity)):
            bare.append(where)
        else:
            records.append(_record(values, annotation, image, base, identity, where))

    if bare and (without_identity == "raise" or not records):
        raise _without_identity(file, identity, bare, annotations)
    _warn_of_near_keys(file, list(keys), identity)
    warn_of_near_names(_OWNER, records)
    return records


def _record(
    values: Object, annotation: Object, image: Object, base: Path, identity: str, where: str
) -> ImageRecord:
    """Build the record of an annotation; ``values`` are those of all its keys."""
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        raise fail(_OWNER, "file_name of an image as a string", f"{shown(name)} for {where}")

    path = str(base / name)
    numbers = four_numbers(_OWNER, annotation.get("bbox"), where)
    if numbers is not None:
        left, top, width, height = numbers
        path = with_box(_OWNER, path, (left, top, left + width, top + height), where)

    extra = texts_of_others(values, (*_FIELDS, identity))
    if identity != "category" and not is_empty(values.get("category")):
        extra["category"] = text_of(values["category"])

    captions = captions_of(_OWNER, values.get("caption"), where)
    return ImageRecord(
        path,
        integer_or_name(_OWNER, identity, values[identity], where),
        camera=optional_name(_OWNER, "camera", values.get("camera"), where),
        view=optional_text(_OWNER, "view", values.get("view"), where),
        caption=captions[0] if captions else None,
        split=optional_text(_OWNER, "split", values.get("split"), where),
        tracklet=optional_name(_OWNER, "tracklet", values.get("tracklet"), where),
        frame=frame_number(_OWNER, values.get("frame"), where),
        extra={**further_captions(captions), **extra},
        modality=optional_text(_OWNER, "modality", values.get("modality"), where),
    )


def _warn_of_near_keys(file: Path, keys: list[str], identity: str) -> None:
    """Warn of keys that go to ``extra``, but are named nearly as a field."""
    columns = {field: field for field in _FIELDS} | {"identity": identity}
    found = {field: keys.index(name) for field, name in columns.items() if name in keys}
    warn_of_near_columns(_OWNER, file, keys, found, remedy="rename the key to {field!r}")


def _values(
    annotation: Object, image: Object, categories: Mapping[object, Object], where: str
) -> dict[str, object]:
    """Return all values of an annotation: its own, its attributes', and its image's."""
    attributes = annotation.get("attributes")
    own = attributes if isinstance(attributes, dict) else {}
    values: dict[str, object] = {}
    for source in (image, own, annotation):
        named = {key: source[key] for key in source if key not in _GEOMETRY}
        values |= {key: value for key, value in named.items() if not is_empty(value)}

    number = annotation.get("category_id")
    if categories and number is not None:
        values["category"] = _named(categories, number, "category", where).get("name")
    return values


def _read_object(file: Path) -> dict[str, object]:
    """Read the file, which has to be one object."""
    try:
        content = _read_files.read_json(file)
    except FileNotFoundError as error:
        raise ValueError(f"{_OWNER}: there is no file at {file}. Correct the path.") from error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{_OWNER}: cannot read {file} as JSON: {describe_error(error)}."
        ) from error

    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise ValueError(
            f"{_OWNER}: {file} is not of COCO's format: it has to be an object with images and "
            "annotations. Read other JSON files with read_table or read_annotations."
        )
    return content


def _objects(file: Path, content: Object, key: str) -> list[dict[str, object]]:
    """Return a list of objects; empty if the file has none of that name."""
    objects = content.get(key, [])
    if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
        raise ValueError(f"{_OWNER}: {key!r} in {file} has to be a list of objects.")
    return objects


def _by_id(file: Path, content: Object, key: str) -> dict[object, Object]:
    """Return objects by their ``id``."""
    objects = _objects(file, content, key)
    ids = [one.get("id") for one in objects]
    if not all(_is_id(number) for number in ids):
        raise ValueError(
            f"{_OWNER}: an object of {key!r} in {file} has no id. Give each object its own."
        )

    _check_distinct(file, objects, key)
    return dict(zip(ids, objects, strict=True))


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _check_distinct(file: Path, objects: Sequence[Object], key: str) -> None:
    """Raise ValueError if two objects have one id; those without an id are left out."""
    counts = Counter(one["id"] for one in objects if _is_id(one.get("id")))
    repeated = [number for number, count in counts.items() if count > 1]
    if repeated:
        raise ValueError(
            f"{_OWNER}: the id {shown(repeated[0])} occurs twice in {key!r} of {file}. Give each "
            "object its own id."
        )


def _named(objects: Mapping[object, Object], number: object, kind: str, where: str) -> Object:
    """Return the image or category that an annotation names."""
    if _is_id(number) and number in objects:
        return objects[number]
    raise ValueError(
        f"{_OWNER}: {where} names the {kind} {shown(number)}, which the file does not list. Add "
        "it, or remove the annotation."
    )


def _without_identity(
    file: Path, identity: str, bare: Sequence[str], annotations: Sequence[Object]
) -> ValueError:
    """Build the error for annotations without an identity."""
    keys: set[str] = set()
    for annotation in annotations[:1000]:
        attributes = annotation.get("attributes")
        keys |= set(annotation) - _GEOMETRY
        keys |= set(attributes) if isinstance(attributes, dict) else set()

    found = ", ".join(sorted(keys)) or "none"
    return ValueError(
        f"{_OWNER}: {len(bare)} of {len(annotations)} annotations of {file} have no {identity!r} "
        f"(keys that name something: {found}). Pass identity= one of these, or 'category'; or pass "
        'without_identity="skip" to leave boxes without one out.'
    )

"""Records of the image files whose paths match a pattern."""

import re

from clipreid_kit.data.files.file_tree import IMAGE_SUFFIXES, FileTree, is_image
from clipreid_kit.data.readers._identity_folders import common_folder
from clipreid_kit.data.readers._integer_columns import optional_integers_if_all
from clipreid_kit.data.records import ImageRecord

Fields = dict[str, str | None]

_FIELDS = ("identity", "camera", "view", "split", "caption")


def records_by_pattern(
    owner: str,
    tree: FileTree,
    expression: re.Pattern[str],
    shown: str,
    split: str | None,
    unmatched: str,
) -> list[ImageRecord]:
    """Build a record of each image whose path matches; ``shown`` is the pattern in errors."""
    images = [name for name in tree.names if is_image(name)]
    if not images:
        content = f"none of its {len(tree.names)} files is one" if tree.names else "it is empty"
        raise ValueError(
            f"{owner}: there are no images in {tree.root} ({content}). Images end in "
            f"{', '.join(IMAGE_SUFFIXES)}."
        )

    fields_of = _match_fields(tree, images, expression)
    _check_unmatched(owner, images, fields_of, shown, unmatched)

    cameras = optional_integers_if_all([row.get("camera") or "" for row in fields_of.values()])
    return [
        _record(tree.path(name), fields, camera, split)
        for (name, fields), camera in zip(fields_of.items(), cameras, strict=True)
    ]


def _record(path: str, fields: Fields, camera: int | str | None, split: str | None) -> ImageRecord:
    """Build a record from the fields in its path; empty fields are ``None`` or left out."""
    extra = {key: value for key, value in fields.items() if key not in _FIELDS and value}
    return ImageRecord(
        path,
        str(fields["identity"]),
        camera=camera,
        view=fields.get("view") or None,
        caption=fields.get("caption") or None,
        split=fields.get("split") or split,
        extra=extra,
    )


def _match_fields(
    tree: FileTree, images: list[str], expression: re.Pattern[str]
) -> dict[str, Fields]:
    """Return the fields of each image whose path matches, by its name."""
    matches = {name: expression.search(name) for name in images}

    # An archive may hold everything in one folder that the pattern does not mention.
    if tree.archive is not None and not any(matches.values()):
        wrapper = common_folder(images)
        matches = {name: expression.search(name.removeprefix(wrapper)) for name in images}

    fields_of = {}
    for name, match in matches.items():
        if match is not None and match["identity"]:
            fields_of[name] = match.groupdict()
    return fields_of


def _check_unmatched(
    owner: str,
    images: list[str],
    fields_of: dict[str, Fields],
    shown: str,
    unmatched: str,
) -> None:
    """Raise ValueError if images do not match and may not be left out, or if none matches."""
    left_out = sorted(set(images) - set(fields_of))
    if fields_of and (unmatched == "skip" or not left_out):
        return

    remedy = "Change the pattern."
    if fields_of:
        remedy = 'Change the pattern, or pass unmatched="skip" to leave them out.'
    more = ", ..." if len(left_out) > 3 else ""
    raise ValueError(
        f"{owner}: {len(left_out)} of {len(images)} images do not match the pattern {shown!r}: "
        f"{', '.join(left_out[:3])}{more}. {remedy}"
    )

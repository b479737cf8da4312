"""Records of the image files whose paths match a pattern."""

from clipreid_kit.data.files.file_tree import FileTree, is_image
from clipreid_kit.data.files.image_suffixes import IMAGE_SUFFIXES
from clipreid_kit.data.readers._extra_values import frame_number
from clipreid_kit.data.readers._identity_folders import common_folder
from clipreid_kit.data.readers._integer_columns import optional_integers_if_all
from clipreid_kit.data.readers._path_pattern import Expression, PathPattern, search_path
from clipreid_kit.data.records import ImageRecord

Fields = dict[str, str | None]

_FIELDS = (
    "identity",
    "camera",
    "view",
    "split",
    "caption",
    "modality",
    "tracklet",
    "frame",
)


def records_by_pattern(
    owner: str,
    tree: FileTree,
    pattern: PathPattern,
    split: str | None,
    unmatched: str,
) -> list[ImageRecord]:
    """Build a record of each image whose path matches."""
    images = [name for name in tree.names if is_image(name)]
    if not images:
        content = f"none of its {len(tree.names)} files is one" if tree.names else "it is empty"
        raise ValueError(
            f"{owner}: there are no images in {tree.root} ({content}). Images end in "
            f"{', '.join(IMAGE_SUFFIXES)}."
        )

    fields_of = _match_fields(owner, tree, images, pattern.expression)
    _check_unmatched(owner, images, fields_of, pattern.shown, unmatched)
    if pattern.with_numbers is not None:
        numbered = _match_fields(owner, tree, images, pattern.with_numbers)
        fields_of = _less_ambiguous(owner, pattern.shown, fields_of, numbered)

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
        modality=fields.get("modality") or None,
        tracklet=fields.get("tracklet") or None,
        frame=frame_number("read_folder", fields.get("frame"), path),
    )


def _less_ambiguous(
    owner: str, shown: str, fields_of: dict[str, Fields], numbered: dict[str, Fields]
) -> dict[str, Fields]:
    """Return the fields with a number as the camera if every path has one, else those as found."""
    if numbered.keys() == fields_of.keys():
        return numbered

    for name, fields in numbered.items():
        if fields != fields_of.get(name):
            first = f"{fields_of[name]['identity']!r} and {fields_of[name]['camera']!r}"
            second = f"{fields['identity']!r} and {fields['camera']!r}"
            raise ValueError(
                f"{owner}: the pattern {shown!r} is ambiguous: identity and camera of {name} may "
                f"be {first} or {second}. Use a regular expression."
            )
    return fields_of


def _match_fields(
    owner: str, tree: FileTree, images: list[str], expression: Expression
) -> dict[str, Fields]:
    """Return the fields of each image whose path matches, by its name."""
    matches = {name: search_path(owner, expression, name) for name in images}

    # An archive may hold everything in one folder that the pattern does not mention.
    if tree.archive is not None and not any(matches.values()):
        wrapper = common_folder(images)
        matches = {
            name: search_path(owner, expression, name.removeprefix(wrapper)) for name in images
        }

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

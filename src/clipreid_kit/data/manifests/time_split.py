"""Divide images by the time at which they were taken."""

import os
from collections.abc import Sequence
from datetime import date, datetime

from clipreid_kit._checks import fail, shown
from clipreid_kit.data.manifests._build_manifest import build_manifest
from clipreid_kit.data.manifests._image_keys import images_of, keys_of
from clipreid_kit.data.manifests.manifest import SplitManifest
from clipreid_kit.data.moments import read_moment
from clipreid_kit.data.records import ImageRecord

_OWNER = "split_by_time"


def split_by_time(
    records: Sequence[ImageRecord],
    since: str | date,
    *,
    column: str = "time",
    names: tuple[str, str] = ("gallery", "query"),
    data: str = "",
    root: str | os.PathLike[str] | None = None,
) -> SplitManifest:
    """Divide images by time: those before a date into one part, those from it on into another.

    Use it to search new images among old ones, as in practice: images of one day are alike, and a
    random split puts them on both sides. With ``names=("train", "test")`` it divides training and
    test by time; then the same identities may be in both, which :func:`check_identities` reports.

    Args:
        records: The records to split; their present splits are ignored.
        since: First moment of the second part, such as ``"2024-03-01"`` or
            ``"2024-03-01T12:00:00"``.
        column: Key of ``extra`` that holds the time of an image: in ISO 8601, or as cameras write
            it (``2024:03:01 10:00:00``).
        names: Names of the earlier and of the later part.
        data: Name of the data, for the manifest.
        root: Folder that the manifest's paths are relative to; ``None`` means the deepest folder
            that holds all images.

    Returns:
        A manifest whose two parts hold every image exactly once.

    Raises:
        ValueError: If there are no records, a part would be empty, an image has no time or one that
            is not a date, or some times have a time zone and others have none.

    Example:
        >>> days = ("2024-02-27", "2024-02-28", "2024-03-01")
        >>> records = [ImageRecord(f"{day}.jpg", 7, extra={"time": day}) for day in days]
        >>> split_by_time(records, "2024-03-01").splits
        {'gallery': ('2024-02-27.jpg', '2024-02-28.jpg'), 'query': ('2024-03-01.jpg',)}
    """
    moment = _parse(str(since), "since")
    images = images_of(_OWNER, records, root)

    parts: dict[str, list[str]] = {name: [] for name in names}
    seen: set[str] = set()
    for key, record in zip(keys_of(_OWNER, records, root), records, strict=True):
        if key not in seen:
            is_later = _is_from(record, column, moment)
            parts[names[int(is_later)]].append(key)
            seen.add(key)

    rule = f"{names[0]} before {moment.isoformat()}, {names[1]} from then on"
    return build_manifest(_OWNER, images, parts, data=data, rule=rule, seed=None)


def _is_from(record: ImageRecord, column: str, moment: datetime) -> bool:
    """Return whether an image was taken at a moment or later."""
    text = record.extra.get(column)
    if text is None:
        raise ValueError(
            f"{_OWNER}: {record.path} has no {column!r}. Fill that column, or pass column=, its "
            f"name among {', '.join(record.extra) or 'none'}."
        )

    taken = _parse(text, f"{column!r} of {record.path}")
    if (taken.tzinfo is None) != (moment.tzinfo is None):
        raise ValueError(
            f"{_OWNER}: only one of since and {column!r} of {record.path} has a time zone. Write "
            "both with one, or both without."
        )
    return taken >= moment


def _parse(text: str, where: str) -> datetime:
    """Parse a date or a date with a time; ``where`` names it in errors."""
    moment = read_moment(text)
    if moment is None:
        expected = f"{where} as a date such as 2024-03-01 or 2024-03-01T12:00:00"
        raise fail(_OWNER, expected, shown(text))
    return moment

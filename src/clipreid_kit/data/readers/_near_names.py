"""Warnings about identities, cameras, views and splits that a person would read as one."""

import warnings
from collections.abc import Iterable, Sequence

from clipreid_kit.data.files.near_names import plain_name
from clipreid_kit.data.records import ImageRecord

_FIELDS = {"identity": "identities", "camera": "cameras", "view": "views", "split": "splits"}


# As programs write that a value is missing.
_MISSING = frozenset({"nan", "NaN", "None", "null", "NULL", "<NA>", "N/A", "#N/A", "NaT"})


def warn_of_near_names(owner: str, records: Sequence[ImageRecord]) -> None:
    """Warn of values that differ only in what a reader does not see, such as ``rex`` and ``Rex``.

    They stay different: the warning names them. Warn of values that say that there is none, too.
    """
    for field, plural in _FIELDS.items():
        values = {getattr(record, field) for record in records}
        _warn_of_missing(owner, field, sorted(_MISSING.intersection(values)))
        groups = near_groups(values)
        if not groups:
            continue

        named = [" and ".join(map(repr, group[:3])) for group in groups[:3]]
        more = "; ..." if len(groups) > 3 else ""
        warnings.warn(
            f"{owner}: {len(groups)} {plural} are written in several ways and stay different: "
            f"{'; '.join(named)}{more}. Write each in one way.",
            stacklevel=3,
        )


def _warn_of_missing(owner: str, field: str, names: Sequence[str]) -> None:
    """Warn of texts such as ``nan``: all images without a value would share it."""
    for name in names:
        warnings.warn(
            f"{owner}: {name!r} is read as the name of one {field}. If it means that there is "
            "none, leave the cell empty, or leave those images out.",
            stacklevel=4,
        )


def near_groups(values: Iterable[int | str | None]) -> list[list[int | str]]:
    """Return the values that have a plain name in common with others, in groups, sorted."""
    present = {value for value in values if value is not None}
    # Whole numbers differ from each other; a look at their text would only take time.
    if all(isinstance(value, int) for value in present):
        return []

    by_name: dict[str, list[int | str]] = {}
    for value in sorted(present, key=lambda value: (str(value), isinstance(value, str))):
        by_name.setdefault(plain_name(value), []).append(value)
    return [group for group in by_name.values() if len(group) > 1]

"""Warnings about identities, cameras, views and splits that a person would read as one."""

import difflib
import re
import warnings
from collections.abc import Iterable, Sequence

from clipreid_kit._checks import shown
from clipreid_kit.data.files.near_names import plain_name
from clipreid_kit.data.records import ImageRecord

_FIELDS = {
    "identity": "identities",
    "camera": "cameras",
    "view": "views",
    "split": "splits",
    "modality": "modalities",
}


# As programs and people write that a value is missing, without case.
_MISSING = frozenset(
    {
        "",
        "#div/0!",
        "#n/a",
        "#name?",
        "#null!",
        "#num!",
        "#ref!",
        "#value!",
        "-",
        "--",
        "<na>",
        "?",
        "??",
        "n/a",
        "na",
        "nan",
        "nat",
        "nil",
        "none",
        "null",
        "undefined",
    }
)
# As spreadsheets show long numbers, of which they keep the first digits only.
_SHORTENED_NUMBER = re.compile(r"-?[0-9](?:\.[0-9]+)?E\+[0-9]{2,3}")

_SPLITS_OF_ONE_KIND = (
    ("train", "training", "trainset"),
    ("val", "valid", "validation", "dev"),
    ("query", "queries", "probe", "probes"),
    ("gallery", "galleries"),
    ("test", "testing"),
)
_SEPARATORS = re.compile(r"(?<=\w)[ _-]+(?=\w)")
_MOST_SPLITS = 50  # of more, these are no splits
_LONGEST_SPLIT = 40  # characters; looking for near names takes the square of these


def warn_of_near_names(owner: str, records: Sequence[ImageRecord]) -> None:
    """Warn of values that differ only in what a reader does not see, such as ``rex`` and ``Rex``.

    They stay different: the warning names them. Warn of values that say that there is none, of
    numbers that a spreadsheet has shortened, and of splits that are nearly another, too.
    """
    _warn_of_missing(owner, "caption", {record.caption for record in records})
    for field, plural in _FIELDS.items():
        values = {getattr(record, field) for record in records}
        _warn_of_missing(owner, field, values)
        _warn_of_shortened_numbers(owner, field, values)
        if field == "split":
            _warn_of_near_splits(owner, {value for value in values if isinstance(value, str)})

        groups = near_groups(values)
        if not groups:
            continue

        named = [" and ".join(map(shown, group[:3])) for group in groups[:3]]
        more = "; ..." if len(groups) > 3 else ""
        warnings.warn(
            f"{owner}: {len(groups)} {plural} are written in several ways and stay different: "
            f"{'; '.join(named)}{more}. Write each in one way.",
            stacklevel=3,
        )


def _warn_of_missing(owner: str, field: str, values: Iterable[int | str | None]) -> None:
    """Warn of values such as ``nan`` and -1: all images without a value would share it."""
    missing: list[int | str] = []
    numbers = []
    for value in values:
        if isinstance(value, int):
            numbers.append(value)
        elif value is not None and len(value) < 10 and value.strip().casefold() in _MISSING:
            missing.append(value)

    if -1 in numbers and min(numbers) == -1:
        missing.append(-1)

    what = "a caption" if field == "caption" else f"the name of one {field}"
    for name in sorted(missing, key=str):
        warnings.warn(
            f"{owner}: {name!r} is read as {what}. If it means that there is "
            "none, leave the cell empty, or leave those images out.",
            stacklevel=4,
        )


def _warn_of_shortened_numbers(owner: str, field: str, values: Iterable[int | str | None]) -> None:
    """Warn of numbers such as ``1.23E+12``, which several long numbers may have become."""
    for value in values:
        if isinstance(value, str) and _SHORTENED_NUMBER.fullmatch(value):
            warnings.warn(
                f"{owner}: the {field} {shown(value)} looks like a long number that a spreadsheet "
                "has shortened, so that several may have become one. Format that column as text, "
                "and write the table again.",
                stacklevel=4,
            )
            return


def _warn_of_near_splits(owner: str, splits: set[str]) -> None:
    """Warn of splits of one kind, such as train and training, and of misspelt ones."""
    splits = {name for name in splits if len(name) <= _LONGEST_SPLIT}
    if len(splits) > _MOST_SPLITS:
        return

    known = [name for names in _SPLITS_OF_ONE_KIND for name in names]
    for names in _SPLITS_OF_ONE_KIND:
        present = [name for name in names if name in splits]
        if len(present) > 1:
            _warn_of_near_split(owner, present[1], present[0])

    for name in sorted(splits.difference(known)):
        others = [*known, *sorted(splits - {name})]
        for near in difflib.get_close_matches(name, others, n=1, cutoff=0.8):
            if _is_misspelt(name, near):
                _warn_of_near_split(owner, name, near)


def _is_misspelt(name: str, near: str) -> bool:
    """Return whether a word is another with a letter too many, too few or elsewhere."""
    if not (name.isalpha() and near.isalpha()):
        return False

    first, second = name.casefold(), near.casefold()
    return first != second and not first.startswith(second) and not first.endswith(second)


def _warn_of_near_split(owner: str, name: str, near: str) -> None:
    warnings.warn(
        f"{owner}: the split {name!r} is read as one beside {near!r}. If they are one, write it in "
        "one way.",
        stacklevel=5,
    )


def near_groups(values: Iterable[int | str | None]) -> list[list[int | str]]:
    """Return the values that have a plain name in common with others, in groups, sorted."""
    present = {value for value in values if value is not None}
    # Whole numbers differ from each other; a look at their text would only take time.
    if all(isinstance(value, int) for value in present):
        return []

    by_name: dict[str, list[int | str]] = {}
    for value in sorted(present, key=lambda value: (str(value), isinstance(value, str))):
        name = _SEPARATORS.sub(" ", plain_name(value))
        by_name.setdefault(name, []).append(value)
    return [group for group in by_name.values() if len(group) > 1]

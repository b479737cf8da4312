"""Near misses: two names that a person would read as one, and the file that was probably meant."""

import os
import re
import unicodedata
from decimal import Decimal
from pathlib import Path

from clipreid_kit import _read_files

# Folders with more files are not searched for a near name.
_MOST_NAMES = 200_000

_WHOLE_NUMBER = re.compile(r"([+-]?)([0-9]+)(?:\.0*)?")
_WITH_EXPONENT = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?e\+?[0-9]{1,2}")
_IN_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+")

# Letters of other alphabets that are drawn like Latin ones, capitals first.
_LATIN = str.maketrans(
    "АВЕКМНОРСТУХІЈЅаеорсухіјѕΑΒΕΖΗΙΚΜΝΟΡΤΥΧορν",  # noqa: RUF001 (meant so)
    "ABEKMHOPCTYXIJSaeopcyxijsABEZHIKMNOPTYXopv",
)
_QUOTES = "\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"


def plain_name(text: object) -> str:
    """Return a name without what a reader does not see.

    Equal for names that differ only in case, white space, Unicode form, kind of hyphen, characters
    of no width, letters of another alphabet that look alike, quotes around them, leading zeros, or
    in whether and how a number is written as text.
    """
    written = str(text)
    if written.isascii() and written.isalnum():
        return _plain_number(written.casefold())

    visible = []
    for character in unicodedata.normalize("NFKC", written):
        category = unicodedata.category(character)
        if category == "Pd":
            visible.append("-")
        elif category not in ("Cf", "Cc") or character.isspace():
            visible.append(character)

    name = " ".join("".join(visible).split()).strip(_QUOTES)
    return _plain_number(name.translate(_LATIN).casefold())


def _plain_number(name: str) -> str:
    """Return a whole number as Python writes it, and anything else as it is."""
    if not name or name[0] not in "+-0123456789":
        return name
    if name.isdecimal():
        return name.lstrip("0") or "0"

    if _WITH_EXPONENT.fullmatch(name):
        number = Decimal(name)
        name = str(int(number)) if number == int(number) else name
    elif _IN_THOUSANDS.fullmatch(name):
        name = name.replace(",", "")

    match = _WHOLE_NUMBER.fullmatch(name)
    if match is None:
        return name
    digits = match[2].lstrip("0") or "0"
    return f"-{digits}" if match[1] == "-" and digits != "0" else digits


def near_file(path: str) -> str:
    """Return words about the file that a missing path probably means; an empty string if none."""
    expanded = os.path.expanduser(path)  # noqa: PTH111 (a home folder that is not known)
    if path.startswith("~") and os.path.exists(expanded):  # noqa: PTH110 (as below)
        return f" (the ~ of a home folder is not replaced: write {expanded})"

    archive, separator, member = path.partition("::")
    names = _names_in_archive(archive) if separator else None
    wanted = member if separator else path
    if os.sep == "/" and "\\" in wanted:
        turned = wanted.replace("\\", "/")
        exists = os.path.exists(turned) if names is None else turned in names  # noqa: PTH110
        if exists:
            return f" (there is {turned!r}: write / for \\)"

    if names is None:
        missing = _first_missing(Path(path))
        names, wanted = _names_in_folder(missing.parent), missing.name
    return _near_name(wanted, names)


def _first_missing(path: Path) -> Path:
    """Return the part of a missing path, up to the first folder or file that does not exist."""
    for parent in reversed(path.parents):
        if not os.path.exists(parent):  # noqa: PTH110 (also of names that cannot be)
            return parent
    return path


def _near_name(wanted: str, names: list[str]) -> str:
    """Return words about the first name that reads like the wanted one."""
    plain = plain_name(wanted)
    for name in names:
        if name != wanted and plain_name(name) == plain:
            return f" (there is {name!r}, which differs in {_difference(wanted, name)})"
    return ""


def _difference(first: str, second: str) -> str:
    """Say in what two names differ that have one plain name."""
    if first.strip() == second.strip() or "".join(first.split()) == "".join(second.split()):
        return "white space"
    if unicodedata.normalize("NFC", first) == unicodedata.normalize("NFC", second):
        return "the Unicode form of its accents"
    if first.casefold() == second.casefold():
        return "upper and lower case"
    return "characters that look alike or are not seen"


def _names_in_folder(folder: Path) -> list[str]:
    """Return the names in a folder; none if it cannot be listed or is very large."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 (names alone are faster)
    except (OSError, ValueError):
        return []
    return names if len(names) <= _MOST_NAMES else []


def _names_in_archive(archive: str) -> list[str]:
    """Return the names of the members of an archive; none if it cannot be opened."""
    try:
        with _read_files.open_archive(archive) as opened:
            names = opened.namelist()
    except Exception:  # noqa: BLE001 (the error is told where the archive itself is read)
        return []
    return names if len(names) <= _MOST_NAMES else []

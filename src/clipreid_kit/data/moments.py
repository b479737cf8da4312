"""Dates and times as tables and cameras write them."""

import re
from datetime import datetime

# 2024-03-01, 20240301, or as cameras write it into EXIF: 2024:03:01; with a time or without
_MOMENT = re.compile(r"(\d{4})([:-]?)(\d{2})\2(\d{2})(?:[ Tt_](.+))?")
_SHORT_TIME = re.compile(r"^(\d{2})(\d{2})(\d{2})?(?!\d)")
_FRACTION = re.compile(r"[.,](\d+)")
_OFFSET = re.compile(r"([+-]\d{2}):?(\d{2})?$")


def read_moment(text: str) -> datetime | None:
    """Read a date, or a date with a time; ``None`` if it is neither.

    Example:
        >>> read_moment("2024:03:01 10:00:00")
        datetime.datetime(2024, 3, 1, 10, 0)
        >>> read_moment("rex") is None
        True
    """
    found = _MOMENT.fullmatch(text.strip())
    if found is None:
        return None

    year, _, month, day, time = found.groups()
    moment = f"{year}-{month}-{day}"
    if time is not None:
        moment += f"T{_full_time(time)}"

    try:
        return datetime.fromisoformat(moment)
    except ValueError:
        return None


def _full_time(time: str) -> str:
    """Write a time with all colons and six digits after the second, as Python 3.10 reads it."""
    time = re.sub(r"[zZ]$", "+00:00", time)
    time = _SHORT_TIME.sub(lambda short: ":".join(filter(None, short.groups())), time)
    time = _FRACTION.sub(lambda fraction: f".{fraction[1]:0<6.6}", time)
    return _OFFSET.sub(lambda offset: f"{offset[1]}:{offset[2] or '00'}", time)

"""Dates and times as tables and cameras write them."""

import re
from datetime import datetime

# As cameras write it into EXIF: 2024:03:01 10:00:00.
_EXIF_DATE = re.compile(r"(\d{4}):(\d{2}):(\d{2})(?=$|[ T])")


def read_moment(text: str) -> datetime | None:
    """Read a date, or a date with a time; ``None`` if it is neither.

    Example:
        >>> read_moment("2024:03:01 10:00:00")
        datetime.datetime(2024, 3, 1, 10, 0)
        >>> read_moment("rex") is None
        True
    """
    iso = _EXIF_DATE.sub(r"\1-\2-\3", text.strip())
    iso = re.sub(r"[zZ]$", "+00:00", iso)  # which Python 3.10 does not read
    try:
        return datetime.fromisoformat(iso)
    except ValueError:
        return None

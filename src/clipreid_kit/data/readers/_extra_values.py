"""Values of JSON and Parquet files as the strings that ``ImageRecord.extra`` holds."""

import json
from collections.abc import Collection, Mapping


def text_of(value: object) -> str:
    """Return a string as it is, and any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def texts_of_others(values: Mapping[str, object], known: Collection[str]) -> dict[str, str]:
    """Return the values of all keys that are not known, without ``None`` and empty strings."""
    texts = {}
    for key, value in values.items():
        if key not in known and value not in (None, ""):
            texts[key] = text_of(value)
    return texts


def is_empty(value: object) -> bool:
    """Return whether a value is ``None``, an empty string or NaN."""
    return value is None or value == "" or value != value

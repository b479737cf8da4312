"""Values of JSON and Parquet files as the strings that ``ImageRecord.extra`` holds."""

import json


def text_of(value: object) -> str:
    """Return a string as it is, and any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def is_empty(value: object) -> bool:
    """Return whether a value is ``None``, an empty string or NaN."""
    return value is None or value == "" or value != value

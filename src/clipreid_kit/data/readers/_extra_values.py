"""Values of JSON and Parquet files as the strings that ``ImageRecord.extra`` holds."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import date

from clipreid_kit._checks import fail, shown


def text_of(value: object) -> str:
    """Return a string as it is, a date in ISO 8601, and any other value as JSON."""
    if isinstance(value, date):  # or a datetime, which is one
        return value.isoformat()
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def texts_of_others(values: Mapping[str, object], known: Collection[str]) -> dict[str, str]:
    """Return the values of all keys that are not known, without ``None`` and empty strings."""
    texts = {}
    for key, value in values.items():
        if key not in known and value not in (None, ""):
            texts[key] = text_of(value)
    return texts


def captions_of(owner: str, value: object, where: str) -> list[str]:
    """Return the captions in a value: a text, or a list of texts; ``where`` names it in errors."""
    if is_blank(value):
        return []
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return [text for text in value if text.strip()]
    if not isinstance(value, list | dict):
        return [text_of(value)]

    raise fail(owner, "a caption as a text or a list of texts", f"{shown(value)} in {where}")


def further_captions(captions: Sequence[str]) -> dict[str, str]:
    """Return all captions but the first, as ``caption_2``, ``caption_3``, ..."""
    return {f"caption_{number}": text for number, text in enumerate(captions[1:], start=2)}


def is_empty(value: object) -> bool:
    """Return whether a value is ``None``, an empty string or NaN."""
    return value is None or value == "" or value != value


def is_blank(value: object) -> bool:
    """Return whether a value is empty or nothing but white space."""
    return is_empty(value) or (isinstance(value, str) and not value.strip())


def integer_or_name(owner: str, field: str, value: object, where: str) -> int | str:
    """Return an identity or camera, checked; ``where`` names it in errors."""
    # Integers become floats in columns with empty cells; from 2**53 on, neighbours become one.
    if isinstance(value, float) and value.is_integer():
        if abs(value) >= 2**53:
            raise ValueError(
                f"{owner}: the {field} {value!r} in {where} is a floating-point number that may "
                "have lost its last digits. Save the column as whole numbers or as text."
            )
        return int(value)

    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise fail(owner, f"{field} as a whole number or a string", f"{shown(value)} in {where}")


def optional_name(owner: str, field: str, value: object, where: str) -> int | str | None:
    """Return a camera or tracklet, checked; ``None`` if it is blank."""
    return None if is_blank(value) else integer_or_name(owner, field, value, where)


def frame_number(owner: str, value: object, where: str) -> int | None:
    """Return the number of a frame; ``None`` if it is blank."""
    frame = optional_name(owner, "frame", value, where)
    if isinstance(frame, str):
        try:
            frame = int(frame)  # leading zeros, as in F001, do not matter in an order
        except ValueError:
            raise fail(owner, "frame as a whole number", f"{shown(value)} in {where}") from None
    return frame


def optional_text(owner: str, field: str, value: object, where: str) -> str | None:
    """Return a value as a string without white space around it; ``None`` if it is empty."""
    if is_empty(value):
        return None
    if isinstance(value, list | dict):
        raise fail(owner, f"{field} as a string", f"{shown(value)} in {where}")
    return text_of(value).strip() or None

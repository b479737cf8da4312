"""Image records as columns of a file: distinct values with a code for each row, or text."""

import itertools
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt

from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.store.conditions import matches
from clipreid_kit.retrieval.store.tensor_file import TensorFile

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FIELDS = ("path", "identity", "camera", "view", "caption", "split")
LATER = ("modality", "tracklet", "frame")  # written where a record has them
_TABLE = "columns"
_NO_TEXT = b"\xff"  # not valid in UTF-8
_MISSING = object()


def value_of(record: ImageRecord, name: str) -> Any:  # noqa: ANN401 (whatever extra holds)
    """Return a record's value in a column: its own, or one of ``extra``; ``None`` without one."""
    own = getattr(record, name) if name in (*FIELDS, *LATER) else None
    is_extra = own is None and name not in FIELDS
    return record.extra.get(name) if is_extra else own


def encode_records(records: Sequence[ImageRecord]) -> dict[str, Array]:
    """Return the arrays that hold records.

    Raises:
        ValueError: If an extra value is neither text, a number nor ``None``.
    """
    extra = sorted({name for record in records for name in record.extra})
    described: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}

    for name in FIELDS:
        values = [getattr(record, name) for record in records]
        _add_column(arrays, described, name, values, is_extra=False)
    for name in LATER:
        values = [getattr(record, name) for record in records]
        if any(value is not None for value in values):
            _add_column(arrays, described, name, values, is_extra=False)
    for name in extra:
        values = [record.extra.get(name, _MISSING) for record in records]
        check_extra(name, values, records)
        _add_column(arrays, described, name, values, is_extra=True)

    table = json.dumps(described).encode()
    return {_TABLE: np.frombuffer(table, dtype=np.uint8), **arrays}


class RecordColumns:
    """Records of a file, made when they are asked for.

    Args:
        file: A file with the arrays of :func:`encode_records`.
    """

    def __init__(self, file: TensorFile) -> None:
        self._file = file
        self._loaded: dict[tuple[bool, str], dict[str, Any]] | None = None

    @property
    def names(self) -> list[str]:
        """Names of all columns, those of records first."""
        return list(dict.fromkeys(name for _, name in self._columns))

    def records(self, rows: IntArray) -> list[ImageRecord]:
        """Return records by row."""
        columns = [self._values((False, name), rows) for name in FIELDS]
        extra: dict[str, list[Any]] = {}
        later: dict[str, list[Any]] = {}
        for is_extra, name in self._columns:
            if is_extra:
                extra[name] = self._values((True, name), rows)
            elif name in LATER:
                later[name] = self._values((False, name), rows)

        fields = zip(*columns, strict=True)
        if not extra and not later:
            return list(itertools.starmap(ImageRecord, fields))

        found = []
        for row, (path, identity, camera, view, caption, split) in enumerate(fields):
            present = {}
            for name, column in extra.items():
                if column[row] is not _MISSING:
                    present[name] = column[row]
            named = {name: column[row] for name, column in later.items()}
            record = ImageRecord(path, identity, camera, view, caption, split, present, **named)
            found.append(record)
        return found

    def values(self, name: str, rows: IntArray) -> list[Any]:
        """Return the values of a column by row; ``None`` where a record lacks the column."""
        key = self._key(name)
        if key is None:
            return [None] * len(rows)
        return [None if value is _MISSING else value for value in self._values(key, rows)]

    def meets(self, name: str, condition: object, num_rows: int) -> BoolArray:
        """Return for each row whether its value in a column meets a condition."""
        key = self._key(name)
        if key is None:
            return np.full(num_rows, matches(condition, None))

        column = self._columns[key]
        if column["kind"] == "text":
            values = self._values(key, np.arange(num_rows))
            return np.array([matches(condition, value) for value in values], dtype=bool)

        distinct = [None if value is _MISSING else value for value in column["values"]]
        of_value = np.array([matches(condition, value) for value in distinct], dtype=bool)
        found: BoolArray = of_value[self._file.read(column["array"])]
        return found

    def _key(self, name: str) -> tuple[bool, str] | None:
        """Return a column of that name: one of records rather than an extra one."""
        return next((key for key in ((False, name), (True, name)) if key in self._columns), None)

    @property
    def _columns(self) -> dict[tuple[bool, str], dict[str, Any]]:
        if self._loaded is None:
            described = json.loads(self._file.read(_TABLE).tobytes())
            for column in described:
                if column["missing"] is not None:
                    column["values"].insert(column["missing"], _MISSING)
            self._loaded = {(column["extra"], column["name"]): column for column in described}
        return self._loaded

    def _values(self, key: tuple[bool, str], rows: IntArray) -> list[Any]:
        column = self._columns[key]
        if column["kind"] == "category":
            codes = self._file.take(column["array"], rows).tolist()
            return [column["values"][code] for code in codes]

        offsets = column["array"] + ".offsets"
        starts, stops = self._file.take(offsets, rows), self._file.take(offsets, rows + 1)
        texts = self._file.take_texts(column["array"] + ".text", starts, stops)
        return [
            None if text == _NO_TEXT else text.decode("utf-8", "surrogatepass") for text in texts
        ]


def check_column_names(owner: str, where: Mapping[str, object], names: Sequence[str]) -> None:
    """Raise ValueError, with the nearest name, if a column is not there."""
    for name in where:
        if name in names:
            continue

        if not names:
            raise ValueError(
                f"{owner}: where has {name!r}, but the index was built without records. Leave "
                "where out."
            )
        near = get_close_matches(str(name).lower(), names, n=1, cutoff=0.0)
        raise ValueError(
            f"{owner}: where has {name!r}, which is not a column of the index. Did you mean "
            f"{near[0]!r}? The columns are {', '.join(names)}."
        )


def _add_column(
    arrays: dict[str, Array],
    described: list[dict[str, Any]],
    name: str,
    values: list[Any],
    *,
    is_extra: bool,
) -> None:
    """Add a column: text where most values are distinct, otherwise distinct values and codes."""
    array = f"extra.{name}" if is_extra else name
    column: dict[str, Any] = {"name": name, "extra": is_extra, "array": array, "missing": None}
    described.append(column)

    keys, distinct = _distinct(values)
    is_text = all(value is None or isinstance(value, str) for value in distinct)
    if is_text and 2 * len(distinct) > len(values):
        column["kind"] = "text"
        arrays[array + ".offsets"], arrays[array + ".text"] = _joined_texts(values)
        return

    column["kind"] = "category"
    code_of = {key: code for code, key in enumerate(dict.fromkeys(keys))}
    arrays[array] = np.fromiter(map(code_of.__getitem__, keys), np.int32, len(keys))
    if _MISSING in distinct:
        column["missing"] = distinct.index(_MISSING)
    column["values"] = [value for value in distinct if value is not _MISSING]


def _joined_texts(values: Sequence[str | None]) -> tuple[Array, Array]:
    """Return where each text begins and the last one ends, and the bytes of all texts."""
    texts = [_encode_text(value) for value in values]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))

    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets, np.frombuffer(b"".join(texts), dtype=np.uint8)


def _encode_text(value: str | None) -> bytes:
    """Return the bytes of a text; lone surrogates, as in odd file names, are kept."""
    return _NO_TEXT if value is None else value.encode("utf-8", "surrogatepass")


def _distinct(values: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return a key of each value, and the distinct values in the order of their first occurrence.

    Values that are not the same have different keys.
    """
    if len(set(map(type, values))) == 1:
        return values, list(dict.fromkeys(values))

    # True, 1 and 1.0 are one key of a dictionary
    keys = list(zip(map(type, values), values, strict=True))
    return keys, [value for _, value in dict.fromkeys(keys)]


def check_extra(name: str, values: list[Any], records: Sequence[ImageRecord]) -> None:
    """Require values that JSON holds without loss."""
    for value, record in zip(values, records, strict=True):
        if value is not _MISSING and not isinstance(value, str | int | float | None):
            raise ValueError(
                f"GalleryIndex: the extra column {name!r} of {record.path} is a "
                f"{type(value).__name__}; an index holds text, numbers and None."
            )

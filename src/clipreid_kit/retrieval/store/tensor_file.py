"""Files of named arrays that are memory-mapped, with checksums for every 128 kB.

The format is that of safetensors, so other programs can read the arrays. The file is written in one
go, a piece at a time, and never changed afterwards.
"""

import contextlib
import json
import math
import mmap
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from clipreid_kit._read_files import UnusableFileError, describe_error, open_file
from clipreid_kit.retrieval.store.checksum import crc32

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]

DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U32": "<u4", "U8": "|u1"}
_CHECKSUMS = "checksums"
_CHECKED = 1 << 17  # bytes that share a checksum, about
_SMALL = 1 << 20  # bytes up to which an array is checked when its file is opened
_ALIGNMENT = 64
_LARGEST_HEADER = 1 << 24


class DamagedFileError(ValueError):
    """A file of an index that is not what was written."""


class FileEntry(TypedDict):
    """Entry of a file in a manifest: enough to notice another one in its place."""

    name: str
    size: int
    header_crc32: int
    checksums_crc32: int


class _Plan(NamedTuple):
    """Place of an array in a file, and of its checksums.

    Attributes:
        dtype: Type of its numbers.
        shape: Its shape.
        offset: Its first byte in the file.
        first_check: Its first checksum.
        block_rows: Rows that share a checksum.
    """

    dtype: "np.dtype[Any]"
    shape: tuple[int, ...]
    offset: int
    first_check: int
    block_rows: int

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def size(self) -> int:
        return self.row_bytes * self.shape[0]

    @property
    def num_checks(self) -> int:
        return -(-self.shape[0] // self.block_rows)


class TensorFileWriter:
    """Write a file of arrays, each in order, a piece at a time.

    Args:
        path: The file; it must not exist.
        shapes: For each array its type, one of :data:`DTYPES`, and its shape.
    """

    def __init__(self, path: Path, shapes: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        self._path = path
        header, self._plans, self._size = _lay_out(shapes)
        self._header_crc32 = crc32(header)
        self._written = dict.fromkeys(self._plans, 0)

        num_checks = self._plans[_CHECKSUMS].shape[0]
        self._checks = np.zeros(num_checks, dtype="<u4")
        self._stream = path.open("xb")
        self._stream.write(header)

    def append(self, name: str, values: Array) -> None:
        """Write the next rows of an array."""
        plan = self._plans[name]
        data = np.ascontiguousarray(values, dtype=plan.dtype).reshape(-1).view(np.uint8).data
        written = self._written[name]
        self._stream.seek(plan.offset + written)
        self._stream.write(data)
        self._written[name] = written + len(data)

        block_bytes = plan.block_rows * plan.row_bytes
        start = 0
        while start < len(data):
            check = plan.first_check + (written + start) // block_bytes
            stop = start + block_bytes - (written + start) % block_bytes
            self._checks[check] = crc32(data[start:stop], int(self._checks[check]))
            start = stop

    def finish(self) -> FileEntry:
        """Write the checksums, flush the file to the disk, and return what the manifest needs."""
        plan = self._plans[_CHECKSUMS]
        self._stream.seek(plan.offset)
        self._stream.write(self._checks.tobytes())
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()

        return FileEntry(
            name=self._path.name,
            size=self._size,
            header_crc32=self._header_crc32,
            checksums_crc32=crc32(self._checks.tobytes()),
        )

    def discard(self) -> None:
        """Delete the file."""
        with contextlib.suppress(OSError):  # a full disk: what was buffered is not wanted
            self._stream.close()
        self._path.unlink(missing_ok=True)


class TensorFile:
    """Arrays of a file, memory-mapped; each part is checked when it is first read.

    Args:
        path: The file.
        entry: What the manifest says of it.

    Raises:
        FileNotFoundError: If there is no such file.
        DamagedFileError: If it is not the file that was written.
    """

    def __init__(self, path: Path, entry: FileEntry) -> None:
        self.path = path
        try:
            stream = open_file(path)
        except (IsADirectoryError, UnusableFileError) as error:
            raise self._damaged(describe_error(error)) from None

        with stream:
            size = os.fstat(stream.fileno()).st_size
            if size != entry["size"]:
                raise self._damaged(f"it has {size} bytes instead of {entry['size']}")
            # the map keeps the file, also when it is deleted
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)

        self._plans = self._read_header(entry["header_crc32"])
        self._views = {name: self._view(plan) for name, plan in self._plans.items()}
        self._checks = self._views[_CHECKSUMS]
        if crc32(self._checks.tobytes()) != entry["checksums_crc32"]:
            raise self._damaged("its table of checksums is not the one that was written")

        self._is_checked = np.zeros(len(self._checks), dtype=bool)
        for name, plan in self._plans.items():
            if plan.size <= _SMALL and name != _CHECKSUMS:
                self._check(name, 0, plan.shape[0])

    def has(self, name: str) -> bool:
        """Return whether the file has an array."""
        return name in self._plans

    def num_rows(self, name: str) -> int:
        """Return the number of rows of an array."""
        return self._plans[name].shape[0]

    def dtype(self, name: str) -> "np.dtype[Any]":
        """Return the type of an array."""
        return self._plans[name].dtype

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return a range of an array's rows, as a view of the file.

        Raises:
            DamagedFileError: If they are not what was written.
        """
        stop = self.num_rows(name) if stop is None else stop
        self._check(name, start, stop)
        return self._views[name][start:stop]

    def take(self, name: str, rows: IntArray) -> Array:
        """Return rows by number, as a copy.

        Raises:
            DamagedFileError: If they are not what was written.
        """
        self._check_blocks(name, rows // self._plans[name].block_rows)
        taken: Array = self._views[name][rows]
        return taken

    def take_texts(self, name: str, starts: IntArray, stops: IntArray) -> list[bytes]:
        """Return ranges of an array of bytes, as copies.

        Raises:
            DamagedFileError: If they are not what was written.
        """
        is_some = stops > starts
        width = self._plans[name].block_rows
        first, last = starts[is_some] // width, (stops[is_some] - 1) // width
        if (last - first).max(initial=0) > 1:
            self._check(name, int(starts.min()), int(stops.max()))
        self._check_blocks(name, np.concatenate([first, last]))

        text = self._views[name].data
        return [bytes(text[a:b]) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]

    def check_all(self) -> None:
        """Read and check the whole file, whether it was checked before or not.

        Raises:
            DamagedFileError: If it is not what was written.
        """
        self._is_checked[:] = False
        for name, plan in self._plans.items():
            if name != _CHECKSUMS:
                self._check(name, 0, plan.shape[0])

    def _read_header(self, expected_crc32: int) -> dict[str, _Plan]:
        """Return where the arrays are."""
        length = struct.unpack("<Q", self._map[:8])[0] if len(self._map) >= 8 else 0
        header = self._map[: 8 + length] if length <= _LARGEST_HEADER else b""
        if crc32(header) != expected_crc32:
            raise self._damaged("its header is not the one that was written")

        described = json.loads(header[8:])
        shapes = {
            name: (value["dtype"], tuple(value["shape"]))
            for name, value in described.items()
            if name != _CHECKSUMS
        }
        return _lay_out(shapes)[1]

    def _view(self, plan: _Plan) -> Array:
        count = math.prod(plan.shape)
        flat = np.frombuffer(self._map, dtype=plan.dtype, count=count, offset=plan.offset)
        return flat.reshape(plan.shape)

    def _check(self, name: str, start: int, stop: int) -> None:
        """Check the blocks that hold a range of rows."""
        if stop <= start:
            return

        plan = self._plans[name]
        first, last = start // plan.block_rows, (stop - 1) // plan.block_rows
        self._check_blocks(name, np.arange(first, last + 1))

    def _check_blocks(self, name: str, blocks: IntArray) -> None:
        """Check blocks that were not checked before."""
        plan = self._plans[name]
        is_open = ~self._is_checked[plan.first_check + blocks]
        if not is_open.any():
            return

        # np.unique imports numpy.ma when it is first called
        unchecked = np.array(sorted(set(blocks[is_open].tolist())))
        expected = self._checks[plan.first_check + unchecked].tolist()
        size = plan.block_rows * plan.row_bytes
        with (
            memoryview(self._map) as whole,
            whole[plan.offset : plan.offset + plan.size] as data,
        ):
            for block, checksum in zip(unchecked.tolist(), expected, strict=True):
                if crc32(data[block * size : (block + 1) * size]) != checksum:
                    raise self._damaged_block(name, block)
        self._is_checked[plan.first_check + unchecked] = True

    def _damaged_block(self, name: str, block: int) -> DamagedFileError:
        plan = self._plans[name]
        first = block * plan.block_rows
        last = min(first + plan.block_rows, plan.shape[0]) - 1
        return self._damaged(f"rows {first} to {last} of {name!r} are not what was written")

    def _damaged(self, reason: str) -> DamagedFileError:
        return DamagedFileError(
            f"{self.path}: {reason}; the file is damaged or was edited. Restore the index from a "
            "copy, or build it again."
        )


def _lay_out(
    shapes: Mapping[str, tuple[str, tuple[int, ...]]],
) -> tuple[bytes, dict[str, _Plan], int]:
    """Return the header, the place of each array, and the size of the file."""
    # larger numbers first: then each array begins at a multiple of its numbers' size
    order = sorted(shapes, key=lambda name: -np.dtype(DTYPES[shapes[name][0]]).itemsize)
    first_check = 0
    unplaced: dict[str, _Plan] = {}
    for name in order:
        code, shape = shapes[name]
        dtype = np.dtype(DTYPES[code])
        row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        plan = _Plan(dtype, shape, 0, first_check, max(1, _CHECKED // row_bytes))
        unplaced[name] = plan
        first_check += plan.num_checks

    num_wide = sum(plan.dtype.itemsize > 1 for plan in unplaced.values())
    items = list(unplaced.items())
    checksums = _Plan(np.dtype("<u4"), (first_check,), 0, first_check, max(1, first_check))
    items.insert(num_wide, (_CHECKSUMS, checksums))

    described: dict[str, object] = {}
    end = 0
    for name, plan in items:
        code = next(key for key, value in DTYPES.items() if np.dtype(value) == plan.dtype)
        offsets = [end, end + plan.size]
        described[name] = {"dtype": code, "shape": list(plan.shape), "data_offsets": offsets}
        end += plan.size

    text = json.dumps(described).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    header = struct.pack("<Q", len(text)) + text

    plans = {}
    position = len(header)
    for name, plan in items:
        plans[name] = plan._replace(offset=position)
        position += plan.size
    return header, plans, position

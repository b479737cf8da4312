"""A segment of an index: the embeddings and records of one ``add``, in one file."""

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.code_product import Codes
from clipreid_kit._similarity.float32_pass import (
    has_extreme_norms,
    inverse_norms,
    scale_rows,
)
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.exact.code_grid import (
    CodeGrid,
    EncodedRows,
    encode_rows,
    fit_grid,
)
from clipreid_kit.retrieval.exact.row_center import RowCenter, center_of, products_with_center
from clipreid_kit.retrieval.store.record_columns import RecordColumns, encode_records
from clipreid_kit.retrieval.store.tensor_file import (
    DTYPES,
    FileEntry,
    TensorFile,
    TensorFileWriter,
)

IntArray = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Array = npt.NDArray[Any]
T = TypeVar("T")

BOUND_ROWS = 64  # rows that share a bound of their codes
_CHUNK = 1 << 19  # elements that are encoded at once: few steps, and still in the cache
_READ = 1 << 24  # elements that are read at once
_CODE_OF = {np.dtype(text): code for code, text in DTYPES.items()}


@runtime_checkable
class EmbeddingReader(Protocol):
    """Embeddings that are read by ranges."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def block(self, start: int, stop: int) -> Tensor:
        """Return a range of the rows."""
        ...

    def norms(self, start: int, stop: int) -> Tensor:
        """Return the norms of a range of the rows, float64."""
        ...


class Segment:
    """The rows of one file: a source of rows to search.

    Args:
        folder: Folder of the index.
        entry: The file's entry in the manifest.
    """

    def __init__(self, folder: Path, entry: FileEntry) -> None:
        self.file = TensorFile(folder / entry["name"], entry)
        self.keys: IntArray = self.file.read("keys")
        self.columns = RecordColumns(self.file) if self.file.has("columns") else None
        self._grid = CodeGrid(_tensor(self.file.read("mean")), _tensor(self.file.read("step")))
        self._center = center_of(self._grid)
        self._residuals = self.file.read("residuals")
        self._code_norms = self.file.read("code_norms")

    @property
    def grid(self) -> CodeGrid:
        """The grid of the codes."""
        return self._grid

    @property
    def center(self) -> RowCenter | None:
        """The centre of nearly equal embeddings; ``None`` for those that are spread."""
        return self._center

    def __len__(self) -> int:
        return len(self.keys)

    def vectors(self, start: int, stop: int) -> Tensor:
        """Return a range of the embeddings."""
        return _tensor(self.file.read("vectors", start, stop))

    def take(self, rows: IntArray) -> Tensor:
        """Return embeddings by row."""
        return _tensor(self.file.take("vectors", rows))

    def norms(self, start: int, stop: int) -> Tensor:
        """Return the norms of a range of the embeddings, float64."""
        return _tensor(self.file.read("norms", start, stop))

    def codes(self, start: int, stop: int) -> Codes:
        """Return the codes of a range of the embeddings."""
        codes: Codes = self.file.read("codes", start, stop)
        return codes

    def code_bounds(self, start: int, stop: int) -> tuple[float, float]:
        """Return the largest residual and the largest code norm of a range of the embeddings."""
        part = slice(start // BOUND_ROWS, (stop - 1) // BOUND_ROWS + 1)
        return float(self._residuals[part].max()), float(self._code_norms[part].max())

    def along_center(self, start: int, stop: int) -> Tensor:
        """Return the products of a range of the unit embeddings with the centre, float64."""
        return self._along_center[start:stop]

    @cached_property
    def _along_center(self) -> Tensor:
        """Those of all embeddings, computed when they are first needed: 8 bytes for each."""
        if self._center is None:
            return torch.zeros(len(self), dtype=torch.float64, device="cpu")

        step = max(1, _READ // self.grid.mean.shape[0])
        parts = []
        for start in range(0, len(self), step):
            rows = start, min(start + step, len(self))
            parts.append(products_with_center(self.vectors(*rows), self.norms(*rows), self._center))
        return torch.cat(parts)


def write_segment(
    path: Path,
    embeddings: EmbeddingReader,
    dtype: str,
    keys: IntArray,
    records: Sequence[ImageRecord] | None,
) -> FileEntry:
    """Write embeddings and their records to a new file, and flush it to the disk.

    The embeddings are read twice, a chunk at a time: for the range of each dimension, and to be
    written.

    Args:
        path: The file.
        embeddings: (N, D), N >= 1.
        dtype: Type they are written in, ``float32`` or ``float64``.
        keys: (N,), ascending.
        records: N records, or ``None``.
    """
    num_rows, dim = len(embeddings), embeddings.block(0, 1).shape[1]
    grid = _fit(embeddings)
    num_bounds = -(-num_rows // BOUND_ROWS)
    columns = {} if records is None else encode_records(records)

    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "vectors": (_CODE_OF[np.dtype(dtype)], (num_rows, dim)),
        "codes": ("U8", (num_rows, dim)),
        "norms": ("F64", (num_rows,)),
        "keys": ("I64", (num_rows,)),
        "mean": ("F32", (dim,)),
        "step": ("F32", (dim,)),
        "residuals": ("F64", (num_bounds,)),
        "code_norms": ("F64", (num_bounds,)),
    }
    shapes |= {name: (_CODE_OF[array.dtype], array.shape) for name, array in columns.items()}

    writer = TensorFileWriter(path, shapes)
    try:
        _write_embeddings(writer, embeddings, grid)
        small = {"keys": keys, "mean": grid.mean.numpy(), "step": grid.step.numpy()}
        for name, array in {**small, **columns}.items():
            writer.append(name, array)
        return writer.finish()
    except BaseException:
        writer.discard()
        raise


def _write_embeddings(
    writer: TensorFileWriter, embeddings: EmbeddingReader, grid: CodeGrid
) -> None:
    """Write embeddings, their norms and codes, and the bounds of the codes."""

    def encode(chunk: _Chunk) -> tuple[_Chunk, EncodedRows]:
        return chunk, encode_rows(torch.from_numpy(chunk.unit()), grid)

    for chunk, encoded in _on_all_threads(encode, _chunks(embeddings)):
        bounds = np.arange(0, len(chunk.rows), BOUND_ROWS)
        writer.append("vectors", chunk.rows.numpy())
        writer.append("norms", chunk.norms.numpy())
        writer.append("codes", encoded.codes)
        writer.append("residuals", np.maximum.reduceat(encoded.residuals, bounds))
        writer.append("code_norms", np.maximum.reduceat(encoded.code_norms, bounds))


def _fit(embeddings: EmbeddingReader) -> CodeGrid:
    """Return the grid that covers all unit rows."""

    def extremes(chunk: _Chunk) -> tuple[Float32Array, Float32Array]:
        unit = chunk.unit()
        return unit.min(axis=0), unit.max(axis=0)

    found = list(_on_all_threads(extremes, _chunks(embeddings)))
    lowest = np.min([low for low, _ in found], axis=0)
    highest = np.max([high for _, high in found], axis=0)
    return fit_grid(torch.from_numpy(lowest), torch.from_numpy(highest))


class _Chunk(NamedTuple):
    """Some embeddings, and their norms."""

    rows: Tensor
    norms: Tensor

    def unit(self) -> Float32Array:
        """Return unit rows in float32; float64 only for norms that float32 does not hold."""
        if self.rows.dtype == torch.float64 or has_extreme_norms(self.norms):
            return scale_rows(self.rows, inverse_norms(self.norms)).numpy()
        factors = inverse_norms(self.norms).float().numpy()
        unit: Float32Array = self.rows.numpy() * factors[:, None]
        return unit


def _chunks(embeddings: EmbeddingReader) -> Iterator[_Chunk]:
    """Yield the rows of each chunk."""
    dim = embeddings.block(0, 1).shape[1]
    step = max(1, _CHUNK // dim // BOUND_ROWS) * BOUND_ROWS
    for start in range(0, len(embeddings), step):
        stop = min(start + step, len(embeddings))
        rows = embeddings.block(start, stop)
        if rows.dtype in (torch.float16, torch.bfloat16):
            rows = rows.float()
        yield _Chunk(rows, embeddings.norms(start, stop))


def _on_all_threads(work: Callable[[_Chunk], T], chunks: Iterator[_Chunk]) -> Iterator[T]:
    """Yield what ``work`` returns for each chunk, in order; few chunks are held at once."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield from map(work, chunks)
        return

    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for chunk in chunks:
            waiting.append(pool.submit(work, chunk))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _tensor(array: Array) -> Tensor:
    """Return an array of a read-only file as a tensor without a copy; nothing writes to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)

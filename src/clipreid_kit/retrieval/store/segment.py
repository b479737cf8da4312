"""A segment of an index: the embeddings and records of one ``add``, in one file."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.float32_pass import (
    has_extreme_norms,
    inverse_norms,
    scale_rows,
)
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.exact.code_grid import CodeGrid, Codes, encode_rows, fit_grid
from clipreid_kit.retrieval.store.record_columns import RecordColumns, encode_records
from clipreid_kit.retrieval.store.tensor_file import (
    DTYPES,
    FileEntry,
    TensorFile,
    TensorFileWriter,
)

IntArray = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

BOUND_ROWS = 64  # rows that share a bound of their codes
# elements that are encoded at once: below the size from which torch wakes its threads, which cost
# more than they save where other programs run
_CHUNK = 1 << 15
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
        self._residuals = self.file.read("residuals")
        self._code_norms = self.file.read("code_norms")

    @property
    def grid(self) -> CodeGrid:
        """The grid of the codes."""
        return self._grid

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
    for rows, norms, unit in _chunks(embeddings):
        encoded = encode_rows(unit, grid)
        bounds = np.arange(0, len(rows), BOUND_ROWS)
        writer.append("vectors", rows.numpy())
        writer.append("norms", norms.numpy())
        writer.append("codes", encoded.codes)
        writer.append("residuals", np.maximum.reduceat(encoded.residuals, bounds))
        writer.append("code_norms", np.maximum.reduceat(encoded.code_norms, bounds))


def _fit(embeddings: EmbeddingReader) -> CodeGrid:
    """Return the grid that covers all unit rows."""
    dim = embeddings.block(0, 1).shape[1]
    lowest = np.full(dim, np.inf, dtype=np.float32)
    highest = np.full(dim, -np.inf, dtype=np.float32)
    for _, _, unit in _chunks(embeddings):  # numpy, as torch wakes its threads for reductions
        np.minimum(lowest, unit.numpy().min(axis=0), out=lowest)
        np.maximum(highest, unit.numpy().max(axis=0), out=highest)
    return fit_grid(torch.from_numpy(lowest), torch.from_numpy(highest))


def _chunks(embeddings: EmbeddingReader) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the rows of each chunk, their norms, and the unit rows in float32."""
    dim = embeddings.block(0, 1).shape[1]
    step = max(1, _CHUNK // dim // BOUND_ROWS) * BOUND_ROWS
    for start in range(0, len(embeddings), step):
        stop = min(start + step, len(embeddings))
        rows = embeddings.block(start, stop)
        if rows.dtype in (torch.float16, torch.bfloat16):
            rows = rows.float()
        norms = embeddings.norms(start, stop)
        yield rows, norms, _unit_rows(rows, norms)


def _unit_rows(rows: Tensor, norms: Tensor) -> Tensor:
    """Return unit rows in float32; float64 only for norms that float32 does not hold."""
    if rows.dtype == torch.float64 or has_extreme_norms(norms):
        return scale_rows(rows, inverse_norms(norms))
    return rows * inverse_norms(norms).float()[:, None]


def _tensor(array: Array) -> Tensor:
    """Return an array of a read-only file as a tensor without a copy; nothing writes to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)

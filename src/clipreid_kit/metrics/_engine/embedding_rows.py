"""Embeddings as they come: tensors, numpy arrays, memory-mapped files. Read by blocks, and checked."""

import mmap
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._checks import check_dense, check_embeddings, fail
from clipreid_kit.metrics._engine.exact_similarity import double_chunks

IntArray = npt.NDArray[np.int64]
_READ = 1 << 24  # elements of a block where a whole file is looked through


class Rows:
    """A matrix of embeddings (N, D) that gives its rows as tensors on one device.

    A memory-mapped array is read block by block: ``streamed`` is true, and pages that were read are given back.

    Args:
        owner: Name of the caller, for error texts.
        name: Name of the argument.
        source: (N, D), float16 to float64, or bfloat16 as a tensor.
        device: Where the rows are wanted; ``None`` leaves them where they are.
    """

    def __init__(
        self,
        owner: str,
        name: str,
        source: Tensor | npt.NDArray[Any],
        device: torch.device | None = None,
    ) -> None:
        self.owner, self.name = owner, name
        self._file: mmap.mmap | None = None
        self._norms: Tensor | None = None
        self._source: Tensor | npt.NDArray[Any]
        if isinstance(source, Tensor):
            check_dense(owner, name, source)
            tensor = source.detach()
            self._source = (
                tensor.cpu() if tensor.device.type == "mps" else tensor
            )  # which has no float64
        else:
            array = as_array(owner, name, source)
            if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
                raise fail(owner, f"{name} as numbers of at most 64 bits", f"{array.dtype}")
            self._file = _file_of(source)
            self._source = array if self._file is not None else _tensor(array)
        probe = self._source if isinstance(self._source, Tensor) else _tensor(self._source[:0])
        check_embeddings(owner, name, probe)
        self.shape = tuple(self._source.shape)
        self.device = device if device is not None else probe.device
        self.dtype = probe.dtype
        self.streamed = self._file is not None
        if self.shape[0] == 0:
            raise fail(owner, f"at least one row of {name}", "none", "Is the split empty?")

    def __len__(self) -> int:
        return int(self.shape[0])

    def part(self, start: int, stop: int) -> "Rows":
        """A range of the rows, read into memory if they are in a file."""
        if (start, stop) == (0, len(self)) and not self.streamed:
            return self
        part = Rows(self.owner, self.name, self.block(start, stop), self.device)
        # here and not in the part, which would give broken rows numbers of its own
        part._norms = self.norms(start, stop, part.block(0, len(part)))
        return part

    def block(self, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop``."""
        return self._read(slice(start, stop))

    def take(self, rows: IntArray) -> Tensor:
        """The rows with these numbers."""
        return self._read(rows)

    def _read(self, rows: slice | IntArray) -> Tensor:
        if isinstance(self._source, Tensor):
            place = (
                rows if isinstance(rows, slice) else torch.from_numpy(rows).to(self._source.device)
            )
            return self._source[place].to(self.device)
        part = _tensor(np.array(self._source[rows])).to(self.device)
        if self._file is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._file.madvise(mmap.MADV_DONTNEED)
        return part

    def norms(self, start: int, stop: int, block: Tensor | None = None) -> Tensor:
        """Norms of the rows ``start`` to ``stop``, float64, nearly exact.

        Raises:
            ValueError: If a row holds NaN, infinity, or numbers whose squares are beyond float64.
        """
        if self._norms is not None:
            return self._norms[start:stop]
        if not self.streamed and (start, stop) != (0, len(self)):
            return self.norms(0, len(self))[start:stop]
        rows = self.block(start, stop) if block is None else block
        norms = torch.empty(rows.shape[0], dtype=torch.float64, device=rows.device)
        for part, values in double_chunks(rows):
            torch.linalg.vector_norm(values, dim=1, out=norms[part])
        bad = ~torch.isfinite(norms)
        if rows.dtype == torch.float64:
            bad |= (norms > 1e140) | (norms < 1e-140)
        if bool(bad.any()):
            self._explain()
        if not self.streamed:
            self._norms = norms
        return norms

    def _explain(self) -> None:
        """Look through all rows and say which are broken."""
        step = max(1, _READ // self.shape[1])
        broken: list[int] = []
        beyond: list[int] = []
        for start in range(0, len(self), step):
            rows = self.block(start, start + step)
            finite = torch.isfinite(rows).all(dim=1)
            broken += (start + torch.nonzero(~finite).flatten()).tolist()
            if rows.dtype == torch.float64:
                size = rows.abs().amax(dim=1)
                extreme = finite & ((size > 1e140) | ((size < 1e-140) & (size > 0)))
                beyond += (start + torch.nonzero(extreme).flatten()).tolist()
        if broken:
            raise fail(
                self.owner,
                f"finite {self.name}",
                f"NaN or infinity in {len(broken)} of {len(self)} rows (first: {broken[:5]})",
                "Look at the images of these rows, and at the precision that they were encoded in.",
            )
        if beyond:
            raise fail(
                self.owner,
                f"{self.name} whose squares are float64 numbers",
                f"magnitudes beyond 1e-140 to 1e140 in {len(beyond)} rows (first: {beyond[:5]})",
                "Divide all embeddings by one common factor.",
            )


def as_array(owner: str, name: str, values: object) -> npt.NDArray[Any]:
    """An array of what a caller gives; an error for rows of unequal length, and for masks, which would be lost."""
    if np.ma.isMaskedArray(values) and np.ma.is_masked(values):
        raise fail(
            owner,
            f"{name} without a mask",
            f"{int(np.ma.getmaskarray(values).sum())} masked values",
            "Leave them out.",
        )
    try:
        return np.asarray(values)
    except ValueError:
        raise fail(owner, f"{name} as an array", "rows of unequal length") from None


def check_widths(owner: str, first: Rows, second: Rows) -> None:
    """Require two sets of one width."""
    if first.shape[1] != second.shape[1]:
        raise fail(
            owner,
            f"{first.name} and {second.name} of one width",
            f"{first.shape} and {second.shape}",
            "Take both from the same model, at the same level.",
        )


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    with warnings.catch_warnings():  # a read-only array is fine: nothing writes to it
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)


def _file_of(source: object) -> mmap.mmap | None:
    """The file behind a memmap or a view of one; not of other maps, private ones, say, whose pages may hold changes."""
    shared = False
    while isinstance(source, np.ndarray):
        shared |= isinstance(source, np.memmap) and source.mode != "c"
        base: object = source.base
        source = base
    return source if shared and isinstance(source, mmap.mmap) else None

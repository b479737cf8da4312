"""Embeddings from tensors, numpy arrays or memory-mapped files: read by blocks, and checked."""

import mmap
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._checks import check_dense, check_embeddings, fail
from clipreid_kit._similarity.as_array import as_array
from clipreid_kit._similarity.exact_similarity import float64_chunks

IntArray = npt.NDArray[np.int64]
_BLOCK = 1 << 24  # elements of a block where a whole file is searched for broken rows


class EmbeddingRows:
    """A matrix of embeddings (N, D) that returns its rows as tensors on one device.

    A memory-mapped array is read block by block: ``streamed`` is true, and the pages that were read
    are released.

    Args:
        owner: Name of the caller, for error messages.
        name: Name of the argument.
        source: (N, D), float16 to float64, or bfloat16 as a tensor.
        device: Device of the returned rows; defaults to that of ``source``.
    """

    def __init__(
        self,
        owner: str,
        name: str,
        source: Tensor | npt.NDArray[Any],
        device: torch.device | None = None,
    ) -> None:
        self.owner = owner
        self.name = name
        self._file: mmap.mmap | None = None
        self._norms: Tensor | None = None
        self._source: Tensor | npt.NDArray[Any]

        if isinstance(source, Tensor):
            check_dense(owner, name, source)
            tensor = source.detach()
            # MPS has no float64
            self._source = tensor.cpu() if tensor.device.type == "mps" else tensor
        else:
            array = as_array(owner, name, source)
            if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
                raise fail(owner, f"{name} as numbers of at most 64 bits", array.dtype)
            self._file = _file_of(source)
            self._source = array if self._file is not None else _to_tensor(array)

        probe = self._source if isinstance(self._source, Tensor) else _to_tensor(self._source[:0])
        check_embeddings(owner, name, probe)
        self.shape = tuple(self._source.shape)
        self.device = device if device is not None else probe.device
        self.dtype = probe.dtype
        self.streamed = self._file is not None
        if self.shape[0] == 0:
            raise ValueError(f"{owner}: {name} has no rows. Is the split empty?")

    def __len__(self) -> int:
        return int(self.shape[0])

    def part(self, start: int, stop: int) -> "EmbeddingRows":
        """Return a range of the rows, read into memory if they are in a file."""
        if (start, stop) == (0, len(self)) and not self.streamed:
            return self

        part = EmbeddingRows(self.owner, self.name, self.block(start, stop), self.device)
        # computed here: an error of the part would number broken rows from the part's start
        part._norms = self.norms(start, stop, part.block(0, len(part)))
        return part

    def select(self, rows: IntArray) -> "EmbeddingRows":
        """Return some of the rows, in memory."""
        part = EmbeddingRows(self.owner, self.name, self.take(rows), self.device)
        # of all rows, so that a broken one is found among the others, too
        norms = self.norms(0, len(self))
        part._norms = norms[torch.from_numpy(rows).to(norms.device)]
        return part

    def block(self, start: int, stop: int) -> Tensor:
        """Return the rows ``start`` to ``stop``."""
        return self._read(slice(start, stop))

    def take(self, rows: IntArray) -> Tensor:
        """Return the rows with these numbers."""
        return self._read(rows)

    def _read(self, rows: slice | IntArray) -> Tensor:
        if isinstance(self._source, Tensor):
            if isinstance(rows, slice):
                return self._source[rows].to(self.device)
            return self._source[torch.from_numpy(rows).to(self._source.device)].to(self.device)

        part = _to_tensor(np.array(self._source[rows])).to(self.device)
        if self._file is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._file.madvise(mmap.MADV_DONTNEED)
        return part

    def norms(self, start: int, stop: int, block: Tensor | None = None) -> Tensor:
        """Return the norms of the rows ``start`` to ``stop``, float64, nearly exact.

        Args:
            start: First row.
            stop: One past the last row.
            block: These rows, if they were read already.

        Raises:
            ValueError: If a row holds NaN, infinity, or numbers whose squares exceed float64.
        """
        if self._norms is not None:
            return self._norms[start:stop]
        if not self.streamed and (start, stop) != (0, len(self)):
            return self.norms(0, len(self))[start:stop]

        rows = self.block(start, stop) if block is None else block
        norms = torch.empty(rows.shape[0], dtype=torch.float64, device=rows.device)
        for part, values in float64_chunks(rows):
            torch.linalg.vector_norm(values, dim=1, out=norms[part])

        is_broken = ~torch.isfinite(norms)
        if rows.dtype == torch.float64:
            is_broken |= (norms > 1e140) | (norms < 1e-140)
        if bool(is_broken.any()):
            self._raise_for_broken_rows()

        if not self.streamed:
            self._norms = norms
        return norms

    def _raise_for_broken_rows(self) -> None:
        """Look through all rows, and raise ValueError that names those which are broken.

        Zero rows are none of them: this returns if all that was found were zeros.
        """
        step = max(1, _BLOCK // self.shape[1])
        not_finite: list[int] = []
        out_of_range: list[int] = []
        for start in range(0, len(self), step):
            rows = self.block(start, start + step)
            is_finite = torch.isfinite(rows).all(dim=1)
            not_finite += (start + torch.nonzero(~is_finite).flatten()).tolist()

            if rows.dtype == torch.float64:
                size = rows.abs().amax(dim=1)
                is_extreme = is_finite & ((size > 1e140) | ((size < 1e-140) & (size > 0)))
                out_of_range += (start + torch.nonzero(is_extreme).flatten()).tolist()

        if not_finite:
            raise fail(
                self.owner,
                f"finite {self.name}",
                f"NaN or infinity in {len(not_finite)} of {len(self)} rows "
                f"(first: {not_finite[:5]})",
                "Check the images of these rows, and the precision they were encoded in.",
            )
        if out_of_range:
            raise fail(
                self.owner,
                f"{self.name} with magnitudes between 1e-140 and 1e140",
                f"others in {len(out_of_range)} rows (first: {out_of_range[:5]})",
                "Divide all embeddings by one common factor.",
            )


def check_same_dim(owner: str, first: EmbeddingRows, second: EmbeddingRows) -> None:
    """Require two sets with the same number of columns."""
    if first.shape[1] != second.shape[1]:
        raise fail(
            owner,
            f"{first.name} and {second.name} of one width",
            f"{first.shape} and {second.shape}",
            "Take both from the same model, at the same level.",
        )


def _to_tensor(array: npt.NDArray[Any]) -> Tensor:
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    # An array without rows counts as contiguous, and may keep strides that torch refuses.
    if any(stride < 0 for stride in array.strides):
        array = array.copy(order="C")

    with warnings.catch_warnings():
        # torch warns of read-only arrays; nothing here writes to them
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)


def _file_of(source: object) -> mmap.mmap | None:
    """Return the file behind a memory map or a view of one.

    Private maps (mode ``"c"``) are not released: their pages may hold changes that no file has.
    """
    is_shared = False
    while isinstance(source, np.ndarray):
        is_shared |= isinstance(source, np.memmap) and source.mode != "c"
        base: object = source.base
        source = base
    return source if is_shared and isinstance(source, mmap.mmap) else None

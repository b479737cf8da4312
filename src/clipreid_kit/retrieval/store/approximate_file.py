"""An approximate structure of faiss over the rows of an index, in a checked file of its own.

faiss reads its files without suspicion: a damaged one can crash the process. So its bytes are kept
in the checked format of the other files, and every part is compared with its checksum before faiss
sees it.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.float32_pass import inverse_norms, scale_rows
from clipreid_kit.retrieval.exact.gallery_blocks import GalleryRows
from clipreid_kit.retrieval.exact.row_source import RowSource
from clipreid_kit.retrieval.store.tensor_file import (
    DamagedFileError,
    FileEntry,
    TensorFile,
    TensorFileWriter,
)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_BYTES = "faiss_index"
_BLOCK = 1 << 24  # elements that are added at once: 64 MB
_MOST_TRAINED = 1 << 17  # rows that faiss learns from, evenly spaced
_LEAST_EFFORT = 64  # neighbours that a graph keeps in view at least, faiss's "efSearch"
_LEAST_CELLS = 8  # cells that are searched at least, faiss's "nprobe"
_SHARE_OF_CELLS = 16  # one of so many cells is searched, of many

# faiss aborts the whole process for these: no links between nodes, or no codes
_ABORTS = re.compile(r"(HNSW|NSG)0*1?(?![0-9])|(?<![0-9])0+(?![0-9])|[0-9]{8}")
_GRAPH_WITHOUT_NUMBER = re.compile(r"(HNSW|NSG)(?![0-9])")


# structures that keep whole rows and compare them, so that their order is that of float32
_WHOLE_ROWS = re.compile(r"(IVF[0-9]+(_HNSW[0-9]*)?,)?Flat|(HNSW|NSG)[0-9]*(,Flat)?")


class ApproximateEntry(TypedDict):
    """Entry of an approximate structure in a manifest.

    Attributes:
        factory: The factory string of faiss that built it.
        effort: How widely it is searched, as ``build_approximate`` takes it; ``None`` by default.
        num_rows: It holds the first so many rows of the index, removed ones among them.
        file: Its file.
    """

    factory: str
    effort: int | None
    num_rows: int
    file: FileEntry


class Neighbours(NamedTuple):
    """Rows that are near by an approximate structure; -1 where it found fewer.

    Attributes:
        rows: (Q, K).
    """

    rows: IntArray


class ApproximateFile:
    """An approximate structure that is read when it is first searched.

    Args:
        folder: Folder of the index.
        entry: Its entry in the manifest.

    Attributes:
        factory: The factory string of faiss that built it.
        effort: How widely it is searched; ``None`` by default.
        num_rows: It holds the first so many rows of the index.
        has_whole_rows: Whether it compares whole rows rather than codes.
    """

    def __init__(self, folder: Path, entry: ApproximateEntry) -> None:
        self.factory = entry["factory"]
        self.effort = entry["effort"]
        self.num_rows = entry["num_rows"]
        self.file = TensorFile(folder / entry["file"]["name"], entry["file"])
        self.has_whole_rows = _WHOLE_ROWS.fullmatch(self.factory) is not None
        self._index: Any = None

    def neighbours(self, queries: Tensor, count: int) -> Neighbours:
        """Return rows near to queries (Q, D), about the nearest first."""
        index = self._loaded()
        _set_effort(index, count, self.effort)
        unit = _unit_rows(queries, torch.linalg.vector_norm(queries.double(), dim=1))
        _, rows = index.search(unit.numpy(), count)
        return Neighbours(rows.astype(np.int64, copy=False))

    def _loaded(self) -> Any:  # noqa: ANN401 (faiss has no types)
        if self._index is not None:
            return self._index

        import faiss

        position = 0

        def read(size: int) -> bytes:
            nonlocal position
            stop = min(position + size, self.file.num_rows(_BYTES))
            part: bytes = self.file.read(_BYTES, position, stop).tobytes()
            position = stop
            return part

        library: Any = faiss  # whose types lack readers and writers
        try:
            index = library.read_index(library.PyCallbackIOReader(read))
        except RuntimeError as error:
            raise DamagedFileError(
                f"{self.file.path}: the installed faiss cannot read it: {_reason(error)}. Build "
                "the approximate structure again."
            ) from error
        if index.ntotal != self.num_rows:
            raise DamagedFileError(
                f"{self.file.path}: it holds {index.ntotal} rows instead of {self.num_rows}. Build "
                "the approximate structure again."
            )
        self._index = index
        return index


def write_approximate(
    owner: str, path: Path, factory: str, effort: int | None, sources: Sequence[RowSource]
) -> ApproximateEntry:
    """Build an approximate structure of all rows, and write it to a new file.

    Args:
        owner: Name of the caller.
        path: The file.
        factory: A factory string of faiss.
        effort: How widely the structure is searched.
        sources: Where the rows are.

    Raises:
        ValueError: If faiss cannot build the structure from these rows.
    """
    rows = GalleryRows(sources)
    index = _build(owner, factory, rows)

    import faiss

    library: Any = faiss  # whose types lack readers and writers
    size = 0

    def count(part: bytes) -> int:
        nonlocal size
        size += len(part)
        return len(part)

    library.write_index(index, library.PyCallbackIOWriter(count))
    writer = TensorFileWriter(path, {_BYTES: ("U8", (size,))})

    def write(part: bytes) -> int:
        writer.append(_BYTES, np.frombuffer(part, dtype=np.uint8))
        return len(part)

    try:
        library.write_index(index, library.PyCallbackIOWriter(write))
        return ApproximateEntry(
            factory=factory, effort=effort, num_rows=rows.num_rows, file=writer.finish()
        )
    except BaseException:
        writer.discard()
        raise


def _build(owner: str, factory: str, rows: GalleryRows) -> Any:  # noqa: ANN401
    """Return faiss's index of the unit rows.

    The similarities of faiss are inner products; of unit rows these are cosines.
    """
    import faiss

    check_factory(owner, factory)
    dim = rows.sources[0].vectors(0, 1).shape[1]
    try:
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            index.train(_sample(rows).numpy())

        for block in rows.blocks(max(1, _BLOCK // dim)):
            loaded = block.load()
            index.add(_unit_rows(loaded.vectors, loaded.norms).numpy())
        index.search(np.ones((1, dim), dtype=np.float32), 1)  # some fail only here
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{owner}: faiss cannot build {factory!r} from {rows.num_rows} rows of {dim} columns: "
            f"{_reason(error)}."
        ) from error
    return index


def check_factory(owner: str, factory: str) -> None:
    """Raise ValueError for factory strings that end the process inside faiss.

    Others that it cannot build are found by trying.
    """
    if not factory:
        raise ValueError(
            f"{owner}: the factory is a text for faiss such as 'HNSW32' or 'IVF1024,Flat'; got "
            f"{factory!r}."
        )
    if _ABORTS.search(_GRAPH_WITHOUT_NUMBER.sub(r"\g<1>32", factory)):
        raise ValueError(
            f"{owner}: {factory!r} has a number that is too small or too large for faiss. Numbers "
            "start at 1, and links of a graph at 2, as in 'HNSW32'."
        )


def _sample(rows: GalleryRows) -> Tensor:
    """Return evenly spaced unit rows to learn from."""
    count = min(rows.num_rows, _MOST_TRAINED)
    chosen = np.linspace(0, rows.num_rows - 1, count).astype(np.int64)
    vectors = rows.take(chosen)
    return _unit_rows(vectors, torch.linalg.vector_norm(vectors.double(), dim=1))


def _unit_rows(rows: Tensor, norms: Tensor) -> Tensor:
    """Return rows scaled to norm 1, in float32."""
    return scale_rows(rows, inverse_norms(norms)).float().contiguous()


def _set_effort(index: Any, count: int, effort: int | None) -> None:  # noqa: ANN401
    """Have a graph or cells searched as widely as was asked for, or as the rows wanted need."""
    import faiss

    inner: Any = faiss.downcast_index(index)
    for name in ("index", "base_index"):  # of rotated vectors, and of refined ones
        if hasattr(inner, name):
            inner = faiss.downcast_index(getattr(inner, name))
    if hasattr(inner, "hnsw"):
        inner.hnsw.efSearch = max(effort or _LEAST_EFFORT, count)
    if hasattr(inner, "nprobe"):
        by_default = max(_LEAST_CELLS, inner.nlist // _SHARE_OF_CELLS)
        inner.nprobe = min(inner.nlist, effort or by_default)


def _reason(error: Exception) -> str:
    """Return what faiss says without its source files, as the end of a sentence."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = re.sub(r"^Error in .* at \S+:\d+: ", "", text)
    text = re.sub(r"^Error: '.*' failed:? ?", "", text) or "it refuses these numbers"
    return text.rstrip(" .")

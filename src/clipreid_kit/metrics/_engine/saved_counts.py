"""The counts of a long evaluation: reported as they grow, and saved so that a killed run continues.

The gallery is counted part after part. What a part adds to the counts depends on no other part, so
the counts of the parts so far, and the number of their rows, are all that has to be kept.
"""

import io
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from clipreid_kit._files import write_whole
from clipreid_kit._read_files import exists, load_array, open_archive
from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.count_nonmatches import count_nonmatches
from clipreid_kit.metrics._engine.match_counts import MatchCounts
from clipreid_kit.metrics._engine.match_pairs import MatchPairs

IntArray = npt.NDArray[np.int64]
Report = Callable[[int, int], None]

PART = 1 << 25  # elements of a part of the gallery
SAVE_SECONDS = 5.0
_RANGE = "queries from"  # begin of the names of the arrays of a range
_NUM_PROBES = 1000  # gallery rows that tell galleries of one size apart


class SavedCounts:
    """Count range after range of the queries, and remember how far that went.

    Args:
        owner: Name of the caller, for error messages.
        num_queries: Number of all queries.
        path: File of the counts, which may not exist yet; ``None`` for saving nothing.
        report: Called with the number of pairs that were compared, and that of all pairs.
    """

    def __init__(
        self, owner: str, num_queries: int, path: Path | None, report: Report | None
    ) -> None:
        self._owner = owner
        self._path = path
        self._report = report
        self._num_queries = num_queries
        self._num_queries_done = 0
        self._arrays: dict[str, IntArray] = {}
        self._saved_at = time.monotonic()

        if path is not None and exists(path):
            self._arrays = self._load(path)

    def count(
        self,
        queries: EmbeddingRows,
        gallery: EmbeddingRows,
        pairs: MatchPairs,
        junk_rows: IntArray,
        matches: MatchCounts,
        distance: Distance,
    ) -> None:
        """Count the non-matches as :func:`count_nonmatches` does, from where an earlier run was.

        Args:
            queries: Queries of the range.
            gallery: (G, D).
            pairs: For each query the gallery rows of its identity.
            junk_rows: Gallery rows that are never non-matches.
            matches: The matches, with their exact similarities.
            distance: ``"cosine"`` or ``"euclidean"``.
        """
        name = f"{_RANGE} {self._num_queries_done}"
        checksum = _checksum(queries, gallery, pairs, junk_rows, matches, distance)
        num_done = self._restore(name, checksum, len(gallery), matches)
        if len(matches.rows) == 0:
            num_done = len(gallery)  # there is nothing to count
        self._tell(len(queries), num_done, len(gallery))

        step = max(1, PART // gallery.shape[1])
        for left in range(num_done, len(gallery), step):
            right = min(left + step, len(gallery))
            count_nonmatches(
                queries,
                gallery.part(left, right),
                pairs.within(left, right),
                junk_rows[(junk_rows >= left) & (junk_rows < right)] - left,
                matches,
                distance,
            )

            self._arrays[f"{name}: above"] = matches.above
            self._arrays[f"{name}: tied"] = matches.tied
            self._arrays[f"{name}: position"] = np.array([checksum, right])
            self._save(at_once=right == len(gallery))
            self._tell(len(queries), right, len(gallery))

        self._num_queries_done += len(queries)

    def remove(self) -> None:
        """Remove the file: the result is known."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _restore(self, name: str, checksum: int, num_gallery: int, matches: MatchCounts) -> int:
        """Take over the counts of a range, and return the number of gallery rows they are of."""
        position = self._arrays.get(f"{name}: position")
        if position is None:
            return 0

        if position[0] != checksum or not 0 < position[1] <= num_gallery:
            raise ValueError(
                f"{self._owner}: {self._path} is of an evaluation of other embeddings, identities "
                "or options. Remove it, or name another file."
            )
        matches.above[:] = self._arrays[f"{name}: above"]
        matches.tied[:] = self._arrays[f"{name}: tied"]
        return int(position[1])

    def _tell(self, num_queries: int, num_rows: int, num_gallery: int) -> None:
        if self._report is not None:
            done = self._num_queries_done * num_gallery + num_queries * num_rows
            self._report(done, self._num_queries * num_gallery)

    def _save(self, *, at_once: bool) -> None:
        """Write the counts, unless that was done a moment ago."""
        now = time.monotonic()
        if self._path is None or (now - self._saved_at < SAVE_SECONDS and not at_once):
            return

        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **self._arrays)
        write_whole(self._path, content.getbuffer())
        self._saved_at = now

    def _load(self, path: Path) -> dict[str, IntArray]:
        try:
            with open_archive(path) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
            if not all(name.startswith(_RANGE) for name in names):
                raise ValueError(f"it has {', '.join(names)}")
            return {name: load_array(path, name) for name in names}
        except (ValueError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{self._owner}: {path} holds no counts of an evaluation ({error}). "
                "Name another file."
            ) from None


def _checksum(
    queries: EmbeddingRows,
    gallery: EmbeddingRows,
    pairs: MatchPairs,
    junk_rows: IntArray,
    matches: MatchCounts,
    distance: Distance,
) -> int:
    """Checksum of all that the counts depend on; of the gallery, of its matches and some rows."""
    sizes = (queries.shape, queries.dtype, gallery.shape, gallery.dtype, distance)
    checksum = zlib.crc32(repr(sizes).encode())

    probes = np.linspace(0, len(gallery) - 1, min(_NUM_PROBES, len(gallery))).astype(np.int64)
    for rows in (queries.block(0, len(queries)), gallery.take(probes)):
        content = rows.cpu().contiguous().view(torch.uint8).numpy()
        checksum = zlib.crc32(content.data, checksum)

    for array in (pairs.begin, pairs.rows, pairs.valid, junk_rows, matches.similarities):
        checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return checksum

"""A gallery of embeddings and records: built, searched by vector, image or text, and changed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer, check_number
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit._similarity.as_array import as_array
from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit.data.records import ImageRecord, check_records
from clipreid_kit.retrieval.approximation_report import (
    ApproximationReport,
    LabelledGallery,
    QueryLabels,
    compare_answers,
)
from clipreid_kit.retrieval.calibration.calibration import Calibration
from clipreid_kit.retrieval.calibration.camera_pairs import judge_hits
from clipreid_kit.retrieval.duplicates import (
    NUM_NEIGHBOURS,
    DuplicateGroup,
    equal_files,
    similar_images,
)
from clipreid_kit.retrieval.encoding.encoded_images import SkippedImage
from clipreid_kit.retrieval.encoding.encoder import Encoder, OnError
from clipreid_kit.retrieval.encoding.image_inputs import ImageInput
from clipreid_kit.retrieval.engines.gallery_store import (
    Conditions,
    Reencoded,
    StoreFacts,
    check_known,
)
from clipreid_kit.retrieval.engines.index_info import IndexInfo
from clipreid_kit.retrieval.engines.open_store import BuildingSite, building_site, open_store
from clipreid_kit.retrieval.neighbour_graph import NeighbourGraph, neighbour_graph
from clipreid_kit.retrieval.remembered_encoder import (
    check_encoder,
    find_encoder,
    source_to_remember,
)
from clipreid_kit.retrieval.search_forms import (
    Finder,
    Found,
    QueryGroup,
    find_each,
    find_nearest_to_any,
    group_by_identity,
    mean_of_unit_rows,
)
from clipreid_kit.retrieval.search_result import SearchResult, clamp_cosines
from clipreid_kit.retrieval.second_pass import Expand, Rerank, expand_queries, rerank_shortlist
from clipreid_kit.retrieval.store.conditions import Not
from clipreid_kit.retrieval.store.record_columns import check_column_names

IntArray = npt.NDArray[np.int64]

_NUM_SAMPLED = 200  # images that recall is measured by, where no queries are given
_CHECKED = 1 << 24  # elements of a file that are checked at once


@fixed_options(not_kept=("token", "device"))
class GalleryIndex:
    """Search a gallery of embeddings exactly, from a folder that is memory-mapped.

    Make one with :meth:`build`, and open it again with :meth:`open`. The nearest images are those
    of the largest exact cosine similarity, as :func:`evaluate_reid` defines it; among equals the
    image that was added first comes first. The answer is the same for any number of threads and
    any other queries beside.

    An open index is a snapshot: it does not see what others write later, until :meth:`reload`.
    Copies and pickles of an index in a folder open the folder again, as worker processes need it.

    With an :class:`Encoder` it takes images and texts instead of vectors: :meth:`search_image`,
    :meth:`search_text`, and records alone in :meth:`build` and :meth:`add`. It remembers where the
    encoder came from, and opens it again when it is needed.

    Args:
        path: Folder of the index, or ``milvus:`` with a file or a URL.
        encoder: Its encoder, if the index cannot find it or another device is wanted.
        token: Of a Milvus server: a token or ``user:password``; defaults to the environment
            variable ``MILVUS_TOKEN``.
        device: Where an exact search of a folder compares embeddings: ``"cuda"`` keeps them on a
            GPU as far as its memory allows, and finds the same images. ``None`` is the CPU.

    Attributes:
        skipped: Images that the last ``build``, ``add`` or ``reembed`` of this object left out
            because they could not be read.

    Raises:
        ValueError: If there is no index, a damaged one, or one of another model than the encoder.

    Example:
        >>> import tempfile
        >>> rows = np.eye(3, dtype=np.float32)
        >>> records = [ImageRecord(f"{name}.jpg", name, camera=1) for name in ("ann", "bob", "cem")]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     index = GalleryIndex.build(rows, records, store=f"{folder}/gallery.index")
        ...     result = index.search([0.6, 0.8, 0.0], k=2)
        ...     index.add(rows[:1] + rows[1:2], [ImageRecord("dee.jpg", "dee", camera=2)]).tolist()
        ...     after = index.search([0.6, 0.8, 0.0], k=1, where={"camera": [1, 2]})
        [3]
        >>> [(hit.record.identity, round(hit.similarity, 2)) for hit in result[0]]
        [('bob', 0.8), ('ann', 0.6)]
        >>> after[0][0].record.path, round(after[0][0].similarity, 2)
        ('dee.jpg', 0.99)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        encoder: Encoder | None = None,
        token: str | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.skipped: tuple[SkippedImage, ...] = ()
        self._store = open_store("GalleryIndex.open", path, token, device)
        self._encoder = encoder
        if encoder is not None:
            check_encoder("GalleryIndex.open", self.name, self._store.facts, encoder)

    @classmethod
    def build(
        cls,
        embeddings: Encoder | Float[Tensor, "n d"] | Float[np.ndarray, "n d"],
        records: Sequence[ImageRecord] | None = None,
        *,
        store: str | os.PathLike[str],
        fingerprint: str | None = None,
        on_error: OnError = "raise",
        approximate: str | None = None,
        token: str | None = None,
        device: str | torch.device | None = None,
    ) -> "GalleryIndex":
        """Write an index to a new folder or to Milvus, and open it.

        The index appears when it is complete. Embeddings of a memory-mapped file are read a block
        at a time.

        Args:
            embeddings: (N, D), float16 to float64; kept as float32, or as float64 if they are that.
                Or an :class:`Encoder`, which encodes the records.
            records: N records; ``None`` for an index without.
            store: The folder, which must not exist or be empty. Or Milvus: ``milvus:gallery.db`` is
                a file of Milvus Lite, ``milvus:http://host:19530`` a server; ``#name`` at the end
                gives the index a name, of several in one place.
            fingerprint: Names the encoder of the embeddings. Searches that name another are
                refused. That of an :class:`Encoder` is its own.
            on_error: With an encoder: ``"raise"`` stops at an image that cannot be read,
                ``"skip"`` leaves it out, and the index names it as ``skipped``.
            approximate: Also build an approximate structure, as :meth:`build_approximate` does.
            token: As for :class:`GalleryIndex`.
            device: As for :class:`GalleryIndex`.

        Raises:
            ValueError: If there are no embeddings, one has NaN or infinity, records differ in
                number, the folder has other files or cannot be written, an image cannot be read,
                faiss cannot build the approximate structure, or the device is not there.
        """
        owner = "GalleryIndex.build"
        site = building_site(owner, store, token, approximate, device)
        if isinstance(embeddings, Encoder):
            return cls._build_encoded(
                embeddings, records, site, fingerprint, on_error, token, device
            )

        rows = _embedding_rows(owner, "embeddings", embeddings)
        _check_records(owner, rows, records)
        dtype = "float64" if rows.dtype == torch.float64 else "float32"
        facts = StoreFacts(rows.shape[1], dtype, fingerprint, records is not None)
        site.build(facts, rows, records)
        return cls(site.address, token=token, device=device)

    @classmethod
    def _build_encoded(
        cls,
        encoder: Encoder,
        records: Sequence[ImageRecord] | None,
        site: BuildingSite,
        fingerprint: str | None,
        on_error: OnError,
        token: str | None,
        device: str | torch.device | None,
    ) -> "GalleryIndex":
        """Encode records, and write an index of them."""
        owner = "GalleryIndex.build"
        if records is None:
            raise ValueError(f"{owner}: an encoder needs records to encode; pass them, too.")
        if fingerprint is not None:
            raise ValueError(f"{owner}: leave out fingerprint=; the encoder has its own.")

        encoded = encoder.encode_records(records, on_error=on_error)
        rows = _embedding_rows(owner, "embeddings", encoded.embeddings)
        facts = _facts_of(encoder, rows, site.path)
        site.build(facts, rows, encoded.records)
        index = cls(site.address, encoder=encoder, token=token, device=device)
        index.skipped = tuple(encoded.skipped)
        return index

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        encoder: Encoder | None = None,
        token: str | None = None,
        device: str | torch.device | None = None,
    ) -> "GalleryIndex":
        """Open an index; its files are mapped, and read when they are needed.

        Args:
            path: Folder of the index, or ``milvus:`` with a file or a URL.
            encoder: Its encoder. ``None`` opens the one that the index remembers, once an image or
                a text is to be encoded.
            token: As for :class:`GalleryIndex`.
            device: As for :class:`GalleryIndex`.

        Raises:
            ValueError: If there is no index, a damaged one, or one of another model, or the device
                is not there.
        """
        return cls(path, encoder=encoder, token=token, device=device)

    @property
    def encoder(self) -> Encoder:
        """The encoder of the index, opened when it is first needed.

        Raises:
            ValueError: If the index does not know it, or it has changed or gone.
        """
        facts = self._store.facts
        if self._encoder is None or facts.fingerprint not in (None, self._encoder.fingerprint):
            self._encoder = find_encoder("GalleryIndex", self.name, facts, self._store.path)
        return self._encoder

    @property
    def name(self) -> str:
        """Name of the index in messages: its folder, or its address in Milvus."""
        return self._store.name

    @property
    def path(self) -> Path:
        """Folder of the index, or its file of Milvus Lite.

        Raises:
            ValueError: If it is on a server.
        """
        path = self._store.path
        if path is None:
            raise ValueError(f"GalleryIndex: {self.name} is on a server, and has no path here.")
        return path

    def __len__(self) -> int:
        """Return the number of images that a search can find."""
        return len(self._store)

    def search(
        self,
        vectors: Float[Tensor, "*q d"] | Float[np.ndarray, "*q d"] | Sequence[float],
        k: int = 10,
        *,
        where: Mapping[str, object] | None = None,
        query_cameras: Sequence[int | str] | None = None,
        combine: Literal["each", "mean", "max"] = "each",
        group_by: Literal["identity"] | None = None,
        expand: Expand | None = None,
        rerank: Rerank | None = None,
        fingerprint: str | None = None,
        approximate: bool = False,
    ) -> SearchResult:
        """Find the images with the largest cosine similarities to each query.

        Args:
            vectors: (Q, D), or (D,) for one query.
            k: How many images to find; with ``group_by``, how many identities.
            where: Conditions by column, all of which an image has to meet: a value, a list of
                values, a :class:`Between` or a :class:`Not`. Columns are those of records (path,
                identity, camera, view, caption, split) and their extra ones.
            query_cameras: Camera of each query; images of the same camera are left out, and a
                calibration of two cameras is used where the index has one.
            combine: ``"each"`` searches every vector. Several images of one query: ``"mean"``
                searches the mean of the unit vectors, ``"max"`` takes each image's similarity to
                the nearest vector.
            group_by: ``"identity"`` returns the nearest image of each of the ``k`` nearest
                identities.
            expand: Search again by a mixture of the query and its nearest images. Similarities are
                those to the mixture, and have no probabilities.
            rerank: Order a shortlist by k-reciprocal re-ranking.
            fingerprint: Names the encoder of ``vectors``.
            approximate: Whether to use the approximate structure of :meth:`build_approximate`: the
                similarities are exact, but images may be missing. :meth:`recall` says how many.

        Returns:
            A :class:`SearchResult` with a list of hits for each query; for a single one with
            ``"mean"`` and ``"max"``.

        Raises:
            ValueError: If ``k`` is larger than the index, vectors have another width or NaN, the
                fingerprint is another one, a column is not there, a file is damaged, or there is no
                approximate structure.
        """
        owner = "GalleryIndex.search"
        check_choice(owner, "combine", combine, ("each", "mean", "max"))
        queries = self._check_queries(owner, vectors, k, fingerprint)
        conditions = self._conditions(owner, where)
        if combine != "each" and query_cameras is not None:
            raise ValueError(
                f'{owner}: query_cameras has no meaning with combine="{combine}", which searches '
                'for all queries at once; leave it out, or pass combine="each".'
            )
        if combine == "max" and (expand is not None or rerank is not None):
            raise ValueError(
                f'{owner}: expand and rerank are not defined for combine="max"; leave them out.'
            )

        if combine == "mean":
            queries = mean_of_unit_rows(queries)
        groups = self._query_groups(
            owner, len(queries), conditions, query_cameras, approximate=approximate
        )

        def find(count: int) -> Found:
            if combine == "max":
                return find_nearest_to_any(queries, groups[0].search, count)
            return find_each(queries, groups, count)

        if expand is not None:
            nearest = find(min(expand.k, len(self)))
            queries = expand_queries(queries, nearest, self._store.vectors, expand)
        ordered: Finder = find
        if rerank is not None:
            ordered = rerank_shortlist(find, queries, self._store.vectors, len(self), rerank)

        if group_by is None:
            return self._result(ordered(k), query_cameras, is_calibrated=expand is None)

        check_choice(owner, "group_by", group_by, ("identity",))
        self._check_columns(owner, {"identity": None})
        grouped = group_by_identity(ordered, k, len(self), self._identities)
        return self._result(grouped, query_cameras, is_calibrated=expand is None)

    @property
    def calibration(self) -> Calibration | None:
        """The calibration of similarities between images; ``None`` without one."""
        values = self._store.facts.calibration
        return None if values is None else Calibration.from_dict(values)

    def set_calibration(self, calibration: Calibration | None) -> None:
        """Save a calibration with the index; searches then have probabilities and "unknown".

        Args:
            calibration: Of the index's encoder, by :func:`calibrate`; ``None`` deletes it.

        Raises:
            ValueError: If it is of another encoder, or another process writes to the index.
        """
        owner = "GalleryIndex.set_calibration"
        theirs = None if calibration is None else calibration.fingerprint
        own = self._store.facts.fingerprint
        if theirs not in (None, own):
            raise ValueError(
                f"{owner}: the calibration is of another model (fingerprint {theirs}) than the "
                f"index ({own}). Calibrate with the encoder of the index."
            )
        self._store.set_calibration(owner, None if calibration is None else calibration.as_dict())

    def search_image(
        self,
        images: ImageInput | Sequence[ImageInput],
        k: int = 10,
        *,
        where: Mapping[str, object] | None = None,
        query_cameras: Sequence[int | str] | None = None,
        combine: Literal["each", "mean", "max"] = "each",
        group_by: Literal["identity"] | None = None,
        expand: Expand | None = None,
        rerank: Rerank | None = None,
        approximate: bool = False,
    ) -> SearchResult:
        """Find the images that are nearest to each of some images.

        Args:
            images: One or several, as :meth:`Encoder.encode_images` takes them.
            k: As for :meth:`search`.
            where: As for :meth:`search`.
            query_cameras: As for :meth:`search`.
            combine: As for :meth:`search`.
            group_by: As for :meth:`search`.
            expand: As for :meth:`search`.
            rerank: As for :meth:`search`.
            approximate: As for :meth:`search`.

        Raises:
            ValueError: As for :meth:`search`, or if an image cannot be read, or the encoder of the
                index cannot be found.
        """
        self._check_k("GalleryIndex.search_image", k)
        vectors = self.encoder.encode_images(images)
        return self.search(
            vectors,
            k,
            where=where,
            query_cameras=query_cameras,
            combine=combine,
            group_by=group_by,
            expand=expand,
            rerank=rerank,
            approximate=approximate,
        )

    def search_text(
        self,
        texts: str | Sequence[str],
        k: int = 10,
        *,
        where: Mapping[str, object] | None = None,
        combine: Literal["each", "mean", "max"] = "each",
        group_by: Literal["identity"] | None = None,
        expand: Expand | None = None,
        rerank: Rerank | None = None,
        approximate: bool = False,
    ) -> SearchResult:
        """Find the images that are nearest to each of some texts.

        Args:
            texts: One or several; none of them empty.
            k: As for :meth:`search`.
            where: As for :meth:`search`.
            combine: As for :meth:`search`.
            group_by: As for :meth:`search`.
            expand: As for :meth:`search`.
            rerank: As for :meth:`search`.
            approximate: As for :meth:`search`.

        Raises:
            ValueError: As for :meth:`search`, or if a text is empty, the model has no text tower
                that its images can be compared with, or the encoder of the index cannot be found.
        """
        owner = "GalleryIndex.search_text"
        self._check_k(owner, k)
        listed = [texts] if isinstance(texts, str) else list(texts)
        _check_written(owner, listed)

        vectors = self.encoder.encode_texts(listed)
        found = self.search(
            vectors,
            k,
            where=where,
            combine=combine,
            group_by=group_by,
            expand=expand,
            rerank=rerank,
            approximate=approximate,
        )
        # the calibration is about two images
        return replace(found, probabilities=None, is_unknown=None)

    def add(
        self,
        embeddings: Sequence[ImageRecord] | Float[Tensor, "n d"] | Float[np.ndarray, "n d"],
        records: Sequence[ImageRecord] | None = None,
        *,
        fingerprint: str | None = None,
        on_error: OnError = "raise",
    ) -> IntArray:
        """Add images; when this returns, they are on the disk.

        Args:
            embeddings: (N, D). Or records alone, which the encoder of the index encodes.
            records: N records, if the index has them.
            fingerprint: Names the encoder of ``embeddings``.
            on_error: For records alone, as for :meth:`build`.

        Returns:
            The keys of the images (N,), int64.

        Raises:
            ValueError: If the embeddings do not fit the index, another process writes to it, or
                the disk is full, or an image cannot be read; the index is unchanged.
        """
        owner = "GalleryIndex.add"
        if not isinstance(embeddings, Tensor | np.ndarray):
            if records is not None:
                raise ValueError(f"{owner}: pass embeddings and records, or records alone.")
            encoded = self.encoder.encode_records(list(embeddings), on_error=on_error)
            self.skipped = tuple(encoded.skipped)
            embeddings, records = encoded.embeddings, encoded.records

        rows = _embedding_rows(owner, "embeddings", embeddings)
        _check_records(owner, rows, records)
        self._check_fit(owner, rows, fingerprint)
        if rows.dtype == torch.float64 and self._store.facts.dtype != "float64":
            raise ValueError(
                f"{owner}: embeddings are float64, but the index keeps float32. Convert them by "
                "float() if what is lost does not matter."
            )
        if (records is None) == self._store.facts.has_records:
            state = "has" if records is None else "was built without"
            raise ValueError(f"{owner}: the index {state} records; give records for all or none.")

        return self._store.add(owner, rows, records)

    def remove(self, keys: Iterable[int]) -> None:
        """Remove images; when this returns, no search finds them.

        Their embeddings stay in the files until :meth:`compact`.

        Args:
            keys: Keys of the images.

        Raises:
            ValueError: If the index has no image with such a key, or another process writes to it;
                the index is unchanged.
        """
        owner = "GalleryIndex.remove"
        self._store.remove(owner, _key_array(owner, keys))

    def compact(self) -> None:
        """Drop removed images from the files, and join the files of all ``add`` to one.

        Rows are numbered anew in the same order; keys stay. An approximate structure is built
        again, since it holds the removed embeddings as well.

        Raises:
            ValueError: If another process writes to the index, a file is damaged, or the disk is
                full; the index is unchanged.
        """
        self._store.compact("GalleryIndex.compact")

    def build_approximate(self, factory: str | None, *, effort: int | None = None) -> None:
        """Build an approximate structure of faiss beside the exact index, or delete it.

        ``search(..., approximate=True)`` then takes its candidates from there, and scores them
        exactly. Images that are added later are searched exactly beside it, until the structure is
        built again; removed ones are filtered. It is read into memory by the first search.

        Args:
            factory: A factory string of faiss: ``"HNSW32"`` loses least, ``"IVF1024,Flat"`` is
                built quickly, ``"IVF1024,PQ64"`` and ``"IVF1024,RaBitQ"`` take little memory,
                and ``"Flat"`` is for comparison. ``None`` deletes the structure.
            effort: How widely it is searched: of a graph, the neighbours kept in view (faiss's
                ``efSearch``, 64 by default); of cells, how many are searched (``nprobe``, 8 or a
                sixteenth of them by default). More find more, and take longer.

        Raises:
            ValueError: If faiss cannot build it, the index is empty, another process writes to it,
                or the disk is full; the index is unchanged.

        Example:
            >>> import tempfile
            >>> rows = np.random.default_rng(0).standard_normal((300, 8))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     index = GalleryIndex.build(rows, store=f"{folder}/gallery.index")
            ...     index.build_approximate("HNSW16")
            ...     index.search(rows[7], k=1, approximate=True).keys.tolist()
            [[7]]
        """
        owner = "GalleryIndex.build_approximate"
        if effort is not None:
            check_integer(owner, "effort", effort, 1)
        self._store.build_approximate(owner, factory, effort)

    def recall(
        self,
        queries: Float[Tensor, "q d"] | Float[np.ndarray, "q d"] | None = None,
        k: int = 10,
        *,
        query_ids: Sequence[int | str] | None = None,
        query_cameras: Sequence[int | str] | None = None,
        where: Mapping[str, object] | None = None,
        seed: int = 0,
    ) -> ApproximationReport:
        """Compare the approximate answer with the exact one.

        Args:
            queries: (Q, D), at least two. ``None`` takes 200 images of the index, evenly spaced,
                with noise of half their spread.
            k: How many images to find.
            query_ids: Identity of each query; then Rank-1 and mAP of both answers are compared.
            query_cameras: As for :meth:`search`.
            where: As for :meth:`search`.
            seed: Of the bootstrap of the intervals.

        Raises:
            ValueError: As for :meth:`search`, or if there are fewer than two queries or identities.
        """
        owner = "GalleryIndex.recall"
        self._check_k(owner, k)

        if queries is None:
            if query_ids is not None or query_cameras is not None:
                raise ValueError(
                    f"{owner}: query_ids and query_cameras describe queries; pass queries, too."
                )
            queries = self._noisy_images(seed)

        if query_ids is not None and len(query_ids) != len(queries):
            raise ValueError(
                f"{owner}: there are {len(query_ids)} query_ids for {len(queries)} queries; pass "
                "one for each."
            )
        if len(queries) < 2:
            raise ValueError(f"{owner}: pass two queries at least, as one has no interval.")

        options: dict[str, Any] = {"where": where, "query_cameras": query_cameras}
        exact = self.search(queries, k, **options)
        found = self.search(queries, k, approximate=True, **options)
        if query_ids is None:
            return compare_answers(exact, found, seed=seed)

        # With identities, compare Rank-1 and mAP, too.
        self._check_columns(owner, {"identity": None})
        keys = self._store.keys(owner, self._conditions(owner, where))
        rows = self._store.rows_of_keys(owner, keys)
        gallery = LabelledGallery(
            self._store.values("identity", rows), self._store.values("camera", rows)
        )
        labels = QueryLabels(
            [_plain(identity) for identity in query_ids],
            None if query_cameras is None else [_plain(camera) for camera in query_cameras],
        )
        return compare_answers(exact, found, labels, gallery, seed=seed)

    def reembed(self, encoder: Encoder, *, on_error: OnError = "raise") -> None:
        """Encode all images again by another model, and replace all vectors in one atomic step.

        Until it is done, others read and search the index as it was; nobody can write to it.
        Rows are numbered anew as by :meth:`compact`; keys stay. A calibration and an
        approximate structure are deleted.

        Args:
            encoder: The new encoder, which the index remembers from now on.
            on_error: ``"raise"`` stops at an image that cannot be read, and leaves the index as it
                was; ``"skip"`` removes it from the index, which names it as ``skipped``.

        Raises:
            ValueError: If the index has no records, another process writes to it, an image cannot
                be read, or the disk is full; the index is unchanged.
        """
        owner = "GalleryIndex.reembed"
        skipped: list[SkippedImage] = []

        def reencode(records: list[ImageRecord]) -> Reencoded:
            encoded = encoder.encode_records(records, on_error=on_error)
            skipped.extend(encoded.skipped)
            embeddings = _embedding_rows(owner, "embeddings", encoded.embeddings)
            facts = _facts_of(encoder, embeddings, self._store.path)
            return Reencoded(np.array(encoded.rows), embeddings, encoded.records, facts)

        self._store.reembed(owner, reencode)
        self._encoder = encoder
        self.skipped = tuple(skipped)

    def verify(self) -> None:
        """Read and check all files of the index.

        Raises:
            ValueError: If one is not what was written, with its name and the place.
        """
        self._store.verify()

    def reload(self) -> None:
        """See what was written since the index was opened."""
        self._store.reload()

    def newest(self) -> "GalleryIndex":
        """Return the index as it is now: itself if nothing was written since it was opened.

        Unlike :meth:`reload`, it leaves this object as it was, so that a search that runs in
        another thread ends in the state that it began in.

        Raises:
            ValueError: If the index has gone or is damaged, or its server does not answer.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     index = GalleryIndex.build(np.eye(3, dtype=np.float32), store=f"{folder}/g")
            ...     before = index.newest() is index
            ...     GalleryIndex.open(f"{folder}/g").remove([0])
            ...     before, len(index), len(index.newest())
            (True, 3, 2)
        """
        store = self._store.newest()
        if store is self._store:
            return self

        newest = copy(self)
        newest._store = store  # noqa: SLF001 (of this class)
        return newest

    def info(self) -> IndexInfo:
        """Return the size, the columns and the state of the index."""
        return self._store.info()

    def keys(self, *, where: Mapping[str, object] | None = None) -> IntArray:
        """Return the keys of the images that meet conditions, in the order of insertion.

        Args:
            where: Conditions by column, as for :meth:`search`; ``None`` for all images.

        Returns:
            The keys (N,), int64; empty if no image meets them.

        Raises:
            ValueError: If a column is not there.
        """
        owner = "GalleryIndex.keys"
        return self._store.keys(owner, self._conditions(owner, where))

    def records(self, keys: Iterable[int] | IntArray) -> list[ImageRecord | None]:
        """Return the records of images by key.

        Args:
            keys: Keys of images that are in the index.

        Raises:
            ValueError: If the index has no image with such a key.
        """
        owner = "GalleryIndex.records"
        wanted = _key_array(owner, keys)
        rows = self._store.rows_of_keys(owner, wanted)
        check_known(owner, wanted, rows)
        return self._store.records(rows)

    def rows(self, keys: Iterable[int] | IntArray) -> IntArray:
        """Return the rows of images by key (N,), int64, as hits have them.

        Args:
            keys: Keys of images that are in the index.

        Raises:
            ValueError: If the index has no image with such a key.
        """
        owner = "GalleryIndex.rows"
        wanted = _key_array(owner, keys)
        rows = self._store.rows_of_keys(owner, wanted)
        check_known(owner, wanted, rows)
        return rows

    def vectors(self, keys: Iterable[int] | IntArray) -> Float[Tensor, "n d"]:
        """Return the embeddings of images by key (N, D), as they were added.

        Args:
            keys: Keys of images that are in the index.

        Raises:
            ValueError: If the index has no image with such a key.
        """
        rows = self.rows(keys)
        if len(rows) == 0:
            return torch.empty(0, self._store.facts.dim, dtype=torch.float32, device="cpu")
        return self._store.vectors(rows)

    def neighbours(
        self, k: int = 50, *, where: Mapping[str, object] | None = None
    ) -> NeighbourGraph:
        """Find the nearest other images of every image, exactly.

        It takes time in the square of the number of images: minutes for 100,000 on two cores. All
        embeddings are held in memory, twice, and 12 bytes for each neighbour.

        Args:
            k: Neighbours of an image; fewer if there are fewer other images.
            where: Conditions by column, as for :meth:`search`; only images that meet them are
                compared.

        Raises:
            ValueError: If a column is not there.
        """
        owner = "GalleryIndex.neighbours"
        check_integer(owner, "k", k, 1)
        conditions = self._conditions(owner, where)
        keys = self._store.keys(owner, conditions)
        rows = self._store.rows_of_keys(owner, keys)
        return neighbour_graph(keys, rows, self._store.vectors, k)

    def duplicates(
        self,
        *,
        content: bool = True,
        min_similarity: float | None = None,
        where: Mapping[str, object] | None = None,
        on_error: OnError = "raise",
    ) -> list[DuplicateGroup]:
        """Find images that are in the index several times.

        Args:
            content: Whether to compare files: groups of files of equal bytes. Only files of equal
                size are read.
            min_similarity: Also return groups of images that pairs of this cosine similarity
                connect, such as 0.99: copies that were saved again or cut. Each image is compared
                with its 20 nearest ones; it takes as long as :meth:`neighbours`.
            where: Conditions by column, as for :meth:`search`.
            on_error: ``"raise"`` stops at a file that cannot be found, ``"skip"`` leaves it out.

        Returns:
            The groups, those of equal files first; of several groups the one first whose first
            image was added first. Empty if there are none.

        Raises:
            ValueError: If the index has no records to compare files by, a file cannot be found, or
                a column is not there.
        """
        owner = "GalleryIndex.duplicates"
        keys = self.keys(where=where)
        found = []
        if content:
            found += equal_files(owner, keys, self.records(keys), on_error)
        if min_similarity is not None:
            check_number(owner, "min_similarity", min_similarity)
            graph = self.neighbours(NUM_NEIGHBOURS, where=where)
            found += similar_images(graph, self.records(keys), min_similarity)
        return found

    def column(self, name: str) -> list[Any]:
        """Return the values of a column, in the order of :meth:`keys`.

        Args:
            name: Name of the column, as ``where`` of :meth:`search` takes it.

        Returns:
            N values; ``None`` for each image whose record lacks the column.

        Raises:
            ValueError: If the column is not there.
        """
        owner = "GalleryIndex.column"
        check_column_names(owner, {name: None}, self._store.column_names)
        rows = self._store.rows_of_keys(owner, self.keys())
        return self._store.values(name, rows)

    def _check_queries(
        self,
        owner: str,
        vectors: Tensor | npt.NDArray[Any] | Sequence[float],
        k: int,
        fingerprint: str | None,
    ) -> Tensor:
        """Return the queries (Q, D), checked to fit the index."""
        self._check_k(owner, k)
        matrix = vectors if isinstance(vectors, Tensor) else as_array(owner, "vectors", vectors)
        rows = _embedding_rows(owner, "vectors", matrix[None] if matrix.ndim == 1 else matrix)
        self._check_fit(owner, rows, fingerprint)
        return rows.block(0, len(rows))

    def _check_k(self, owner: str, k: int) -> None:
        """Raise ValueError if an index has fewer images than are asked for."""
        check_integer(owner, "k", k, 1)
        if k > len(self):
            hint = "; add some first" if len(self) == 0 else ""
            raise ValueError(f"{owner}: k is {k}, but the index holds {len(self)} images{hint}.")

    def _check_fit(self, owner: str, rows: EmbeddingRows, fingerprint: str | None) -> None:
        """Raise ValueError if embeddings are of another width, type or encoder than the index."""
        facts = self._store.facts
        if rows.shape[1] != facts.dim:
            raise ValueError(
                f"{owner}: {rows.name} have {rows.shape[1]} columns, and those of the index "
                f"have {facts.dim}. Take both from the same model, at the same level."
            )
        if fingerprint not in (None, facts.fingerprint):
            raise ValueError(
                f"{owner}: {rows.name} come from the encoder {fingerprint!r}, but the index was "
                f"built with {facts.fingerprint!r}. Encode them by the same model."
            )

    def _conditions(self, owner: str, where: Mapping[str, object] | None) -> Conditions:
        """Return conditions on the columns, checked to be there; none for every image."""
        if not where:
            return ()
        self._check_columns(owner, where)
        return (where,)

    def _check_columns(self, owner: str, where: Mapping[str, object]) -> None:
        check_column_names(owner, where, self._store.column_names)

    def _query_groups(
        self,
        owner: str,
        num_queries: int,
        conditions: Conditions,
        query_cameras: Sequence[int | str] | None,
        *,
        approximate: bool,
    ) -> list[QueryGroup]:
        """Return the queries by what they may find: all images, or those of other cameras."""
        if query_cameras is None:
            search = self._store.searcher(owner, conditions, approximate=approximate)
            return [QueryGroup(np.arange(num_queries), search)]

        if len(query_cameras) != num_queries:
            raise ValueError(
                f"{owner}: there are {len(query_cameras)} query_cameras for {num_queries} queries; "
                "pass one for each."
            )
        self._check_columns(owner, {"camera": None})
        cameras = [_plain(camera) for camera in query_cameras]
        groups = []
        for camera in dict.fromkeys(cameras):
            numbers = [i for i, other in enumerate(cameras) if other == camera]
            search = self._store.searcher(
                owner, (*conditions, {"camera": Not(camera)}), approximate=approximate
            )
            groups.append(QueryGroup(np.array(numbers), search))
        return groups

    def _noisy_images(self, seed: int) -> Tensor:
        """Return queries like the images of the index, (Q, D)."""
        keys = self._store.keys("GalleryIndex.recall", ())
        chosen = np.unique(np.linspace(0, len(keys) - 1, _NUM_SAMPLED).astype(np.int64))
        rows = self._store.rows_of_keys("GalleryIndex.recall", keys[chosen])
        vectors = self._store.vectors(rows).double()
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(vectors.shape, generator=generator, dtype=torch.float64, device="cpu")
        return vectors + noise * vectors.std(dim=0, correction=0) / 2

    def _identities(self, rows: IntArray) -> list[Any]:
        return self._store.values("identity", rows)

    def _records_of(self, rows: IntArray) -> list[list[ImageRecord | None]]:
        """Return the records of the rows of each query, read together; -1 is no row."""
        is_found = rows >= 0
        records = iter(self._store.records(rows[is_found]))
        return [list(islice(records, count)) for count in is_found.sum(axis=1).tolist()]

    def _result(
        self, found: Found, query_cameras: Sequence[int | str] | None, *, is_calibrated: bool
    ) -> SearchResult:
        """Look up the keys and records of rows."""
        is_found = found.rows >= 0
        keys = np.full_like(found.rows, -1)
        keys[is_found] = self._store.keys_of_rows(found.rows[is_found])
        records = self._records_of(found.rows)
        calibration = self.calibration if is_calibrated else None
        similarities = clamp_cosines(found.similarities)
        if calibration is None:
            return SearchResult(found.rows, keys, similarities, records)

        cameras = None if query_cameras is None else [_plain(one) for one in query_cameras]
        probabilities, is_unknown = judge_hits(calibration, found.similarities, records, cameras)
        return SearchResult(
            found.rows,
            keys,
            similarities,
            records,
            probabilities=probabilities,
            is_unknown=is_unknown,
        )


def _plain(value: int | str) -> int | str:
    """Return an element of an array or a tensor as a plain value."""
    item = getattr(value, "item", None)
    plain: int | str = item() if callable(item) else value
    return plain


def _embedding_rows(owner: str, name: str, source: Tensor | npt.NDArray[Any]) -> EmbeddingRows:
    """Return embeddings, checked to be a finite matrix of floating-point numbers."""
    rows = EmbeddingRows(owner, name, source, torch.device("cpu"))
    step = max(1, _CHECKED // rows.shape[1])
    for start in range(0, len(rows), step):
        rows.norms(start, min(start + step, len(rows)))
    return rows


def _check_records(owner: str, rows: EmbeddingRows, records: Sequence[ImageRecord] | None) -> None:
    """Raise ValueError if there is not one record for each embedding."""
    if records is not None and len(records) != len(rows):
        raise ValueError(
            f"{owner}: got {len(rows)} embeddings for {len(records)} records. Encode every record "
            "once, in order: shuffle=False, drop_last=False."
        )
    check_records(owner, records or ())


def _check_written(owner: str, texts: Sequence[str]) -> None:
    """Raise ValueError if a text is empty: a model would embed it, and find anything."""
    for number, text in enumerate(texts):
        if not str(text).strip():
            place = "the text" if len(texts) == 1 else f"text {number}"
            raise ValueError(f"{owner}: {place} is empty. Write a sentence to search for.")


def _key_array(owner: str, keys: Iterable[int] | IntArray) -> IntArray:
    """Return keys as an array of distinct integers."""
    array = as_array(owner, "keys", keys if isinstance(keys, np.ndarray) else list(keys))
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{owner}: keys are whole numbers, as `add` and hits give them.")
    return array.astype(np.int64)


def _facts_of(encoder: Encoder, rows: EmbeddingRows, store: Path | None) -> StoreFacts:
    """Return what an index is to know of the embeddings of an encoder."""
    source = source_to_remember(encoder, store)
    return StoreFacts(
        rows.shape[1], "float32", encoder.fingerprint, has_records=True, encoder=source
    )

"""A gallery in Milvus: Milvus Lite in a file, a server, or a cluster, one address apart.

Milvus compares in float32 and has no tie rule. So more candidates are taken than are asked for, and
scored here as the local index scores them. Only calls are used that Lite and servers both have.

Rows are numbered by their keys, which Milvus has as primary keys.
"""

import json
import secrets
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._read_files import parse_json
from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.engines.gallery_store import (
    Conditions,
    Reencode,
    StoreFacts,
    check_known,
)
from clipreid_kit.retrieval.engines.index_info import IndexInfo
from clipreid_kit.retrieval.engines.milvus_conditions import column_values, expression
from clipreid_kit.retrieval.engines.milvus_connection import MilvusConnection
from clipreid_kit.retrieval.engines.milvus_state import MilvusState, StateCollection
from clipreid_kit.retrieval.exact.candidates import exact_pairs
from clipreid_kit.retrieval.search_forms import Found, Searcher
from clipreid_kit.retrieval.store.record_columns import FIELDS, LATER, check_extra, value_of

IntArray = npt.NDArray[np.int64]

_MOST_FOUND = 16_384  # what Milvus returns for one query
_SPARE = 32  # candidates beyond what is asked for
_ROUNDING = 1e-5  # how far cosines of Milvus may be from the exact ones, with room to spare
_BATCH = 1 << 20  # numbers that are sent or received at once: 4 MB, or some more as text
_PAGE = 2000  # rows that are read or deleted at once
_LONGEST_RECORD = 65_000  # characters: a text of Milvus holds 65,535 bytes
_REMEMBERED = 100_000  # records that a search has read, to show them without another call


class MilvusStore:
    """An index in Milvus.

    Others who remove images from it are seen at once, and what they add after :meth:`reload`.

    Args:
        owner: Name of the caller.
        connection: The Milvus.

    Raises:
        ValueError: If there is no index, or the server does not answer.
    """

    def __init__(self, owner: str, connection: MilvusConnection) -> None:
        self._connection = connection
        self._states = StateCollection(connection)
        self._state = self._states.read(owner)
        self._texts: dict[int, str] = {}
        self._load(owner)

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a connection belongs to one process, and a pickle must hold no token."""
        raise TypeError(
            f"GalleryIndex: {self.name} is a connection to Milvus, which cannot be copied or "
            "pickled. Call GalleryIndex.open where it is needed."
        )

    @property
    def name(self) -> str:
        """The address."""
        return self._connection.address.name

    @property
    def path(self) -> Path | None:
        """The file of Milvus Lite; ``None`` on a server."""
        return self._connection.address.path

    @property
    def facts(self) -> StoreFacts:
        """Facts about the embeddings of the index."""
        return self._state.facts

    @property
    def column_names(self) -> list[str]:
        """Columns of the records; none without records."""
        return list(self._state.columns)

    def __len__(self) -> int:
        """Return the number of images that a search can find."""
        return self._num_images

    def searcher(
        self, owner: str, conditions: Conditions, *, approximate: bool = False
    ) -> Searcher:
        """Return a function that finds the nearest rows.

        Raises:
            ValueError: If an approximate structure is asked for.
        """
        if approximate:
            raise self._no_structure(owner)

        wanted = self._filter(conditions)

        def find(queries: Tensor, count: int) -> Found:
            # as many as are left: all answers are as long as the longest
            rows = np.full((len(queries), count), -1, dtype=np.int64)
            similarities = np.full((len(queries), count), np.nan)
            limit = min(count + _SPARE, max(1, len(self)))
            if limit > _MOST_FOUND:
                raise ValueError(
                    f"{owner}: Milvus returns {_MOST_FOUND} images at most, and {count} were asked "
                    "for. Ask for fewer, or use a folder."
                )
            step = max(1, _BATCH // (limit * queries.shape[1]))
            for start in range(0, len(queries), step):
                part = slice(start, start + step)
                found = self._nearest(owner, queries[part], count, limit, wanted)
                rows[part], similarities[part] = found

            length = int((rows >= 0).sum(axis=1).max(initial=0))
            return Found(rows[:, :length], similarities[:, :length])

        return find

    def keys(self, owner: str, conditions: Conditions) -> IntArray:
        """Return the keys of the images that meet all conditions, in the order of insertion."""
        wanted = self._filter(conditions)
        found: list[int] = []
        for rows in self._pages(owner, ["key"], wanted):
            found += [int(row["key"]) for row in rows]
        return np.sort(np.array(found, dtype=np.int64))

    def keys_of_rows(self, rows: IntArray) -> IntArray:
        """Return the keys of rows, which are the same."""
        return rows.copy()

    def rows_of_keys(self, owner: str, keys: IntArray) -> IntArray:
        """Return the rows of images by key; -1 where there is none, or it was removed."""
        present = {int(row["key"]) for row in self._by_key(owner, keys, ["key"])}
        return np.array([key if key in present else -1 for key in keys.tolist()], dtype=np.int64)

    def vectors(self, rows: IntArray) -> Tensor:
        """Return embeddings by row."""
        owner = "GalleryIndex"
        found = {int(row["key"]): row["vector"] for row in self._by_key(owner, rows, ["vector"])}
        _check_present(owner, rows, found)
        out = torch.empty(len(rows), self.facts.dim, dtype=torch.float32, device="cpu")
        for position, row in enumerate(rows.tolist()):
            out[position] = torch.tensor(found[row], dtype=torch.float32, device="cpu")
        return out

    def records(self, rows: IntArray) -> list[ImageRecord | None]:
        """Return the records of rows; ``None`` for each without records."""
        if not self.facts.has_records:
            return [None] * len(rows)

        owner = "GalleryIndex"
        missing = np.array([row for row in rows.tolist() if row not in self._texts], dtype=np.int64)
        texts = {row: self._texts[row] for row in rows.tolist() if row in self._texts}
        for found in self._by_key(owner, missing, ["record"]):
            texts[int(found["key"])] = str(found["record"])
        _check_present(owner, rows, texts)
        return [_read_record(texts[row]) for row in rows.tolist()]

    def values(self, column: str, rows: IntArray) -> list[Any]:
        """Return the values of a column by row."""
        records = self.records(rows)
        return [None if record is None else value_of(record, column) for record in records]

    def add(
        self, owner: str, embeddings: EmbeddingRows, records: Sequence[ImageRecord] | None
    ) -> IntArray:
        """Add rows; when this returns, Milvus has acknowledged them."""
        old = self._states.read(owner)
        if (old.facts.dim, old.facts.fingerprint) != (self.facts.dim, self.facts.fingerprint):
            raise ValueError(
                f"{owner}: the index has been encoded by another model since it was opened. "
                "Call reload, and encode the images by that model."
            )
        columns = all_columns(records, old.columns)
        keys = np.arange(old.next_key, old.next_key + len(embeddings))
        # of a writer that was killed
        self._call(owner, "delete", old.collection, filter=f"key >= {old.next_key}")
        insert_rows(owner, self._connection, old.collection, embeddings, keys, records, columns)

        state = old.next(next_key=old.next_key + len(embeddings), columns=columns)
        self._commit(owner, state)
        return keys

    def remove(self, owner: str, keys: IntArray) -> None:
        """Remove rows, a page at a time."""
        check_known(owner, keys, self.rows_of_keys(owner, keys))
        for start in range(0, len(keys), _PAGE):
            listed = ", ".join(map(str, keys[start : start + _PAGE].tolist()))
            self._call(owner, "delete", self._state.collection, filter=f"key in [{listed}]")
        self._commit(owner, self._states.read(owner).next())

    def compact(self, owner: str) -> None:
        """Ask Milvus to drop removed rows from its files; it does so in the background."""
        self._call(owner, "compact", self._state.collection)

    def build_approximate(self, owner: str, factory: str | None, effort: int | None) -> None:  # noqa: ARG002
        """Refuse: Milvus has structures of its own.

        Raises:
            ValueError: Always, unless a structure is to be deleted.
        """
        if factory is not None:
            raise self._no_structure(owner)

    def reembed(self, owner: str, reencode: Reencode) -> None:
        """Write all vectors to a new collection, and use that from then on."""
        old = self._states.read(owner)
        keys = self.keys(owner, ())
        records = [record for record in self.records(keys) if record is not None]
        if not records:
            raise ValueError(f"{owner}: the index has no records, so no images to encode.")

        new = reencode(records)
        state = old.next(
            collection=new_collection(owner, self._connection, new.facts.dim), facts=new.facts
        )
        try:
            insert_rows(
                owner,
                self._connection,
                state.collection,
                new.embeddings,
                keys[new.positions],
                new.records,
                state.columns,
            )
        except BaseException:
            self._call(owner, "drop_collection", state.collection)
            raise
        self._commit(owner, state)
        self._call(owner, "drop_collection", old.collection)

    def set_calibration(self, owner: str, values: dict[str, Any] | None) -> None:
        """Keep a calibration with the state, or delete it."""
        old = self._states.read(owner)
        self._commit(owner, old.next(facts=replace(old.facts, calibration=values)))

    def verify(self) -> None:
        """Read every row, and check that it can be used.

        Raises:
            ValueError: If a vector is not finite, a record cannot be read, or rows are missing that
                Milvus counts.
        """
        owner = "GalleryIndex.verify"
        count = 0
        for rows in self._pages(owner, ["key", "vector", "record"], self._filter(())):
            for row in rows:
                is_finite = np.isfinite(np.array(row["vector"], dtype=np.float64)).all()
                if not is_finite or len(row["vector"]) != self.facts.dim:
                    raise ValueError(f"{self.name}: the vector with key {row['key']} is damaged.")
                if self.facts.has_records:
                    _read_record(str(row["record"]))
            count += len(rows)
        if count != self._count(owner):
            raise ValueError(f"{self.name}: {count} rows can be read, and Milvus counts others.")

    def reload(self) -> None:
        """See what was written since the index was opened."""
        owner = "GalleryIndex.reload"
        self._state = self._states.read(owner)
        self._load(owner)

    def newest(self) -> "MilvusStore":
        """Return the index as it is now, over the same connection; one query tells."""
        owner = "GalleryIndex.newest"
        is_newest = self._states.read(owner).generation == self._state.generation
        return self if is_newest else MilvusStore(owner, self._connection)

    def info(self) -> IndexInfo:
        """Return the facts of the index; Milvus does not say how large its files are."""
        facts = self.facts
        return IndexInfo(
            num_images=len(self),
            num_removed=0,
            dim=facts.dim,
            dtype=facts.dtype,
            fingerprint=facts.fingerprint,
            columns=tuple(self._state.columns),
            num_segments=1,
            generation=self._state.generation,
            num_bytes=0,
            encoder=facts.encoder,
            is_calibrated=facts.calibration is not None,
        )

    def _nearest(
        self, owner: str, queries: Tensor, count: int, limit: int, wanted: str
    ) -> tuple[IntArray, npt.NDArray[np.float64]]:
        """Return the nearest rows of each query, by exact similarity; -1 and NaN where fewer are.

        Where rows beyond the last candidate may be as near, all is fetched again with more.
        """
        hits = self._call(
            owner,
            "search",
            self._state.collection,
            [query.tolist() for query in queries.float()],
            filter=wanted,
            limit=limit,
            output_fields=["key", "vector", "record"],
        )
        longest = min(len(self), _MOST_FOUND)
        if limit < longest and any(_is_open(one, count, limit) for one in hits):
            return self._nearest(owner, queries, count, min(4 * limit, longest), wanted)

        rows = np.full((len(queries), count), -1, dtype=np.int64)
        similarities = np.full((len(queries), count), np.nan)
        for number, hits_of_query in enumerate(hits):
            if len(hits_of_query) == 0:
                continue

            keys, scores = _exact_hits(queries[number : number + 1], hits_of_query)
            num_found = min(count, len(keys))
            rows[number, :num_found] = keys[:num_found]
            similarities[number, :num_found] = scores[:num_found]
            self._remember(hits_of_query)

        return rows, similarities

    def _remember(self, hits: Sequence[Any]) -> None:
        """Keep the records of hits, which are shown next."""
        if len(self._texts) > _REMEMBERED:
            self._texts.clear()
        for hit in hits:
            self._texts[_key(hit)] = str(hit["entity"]["record"])

    def _filter(self, conditions: Conditions) -> str:
        """Return the expression of conditions; rows of unfinished changes meet none."""
        own = expression(conditions, self._state.columns)
        finished = f"key >= 0 and key < {self._state.next_key}"
        return f"{finished} and {own}" if own else finished

    def _by_key(self, owner: str, keys: IntArray, fields: list[str]) -> list[dict[str, Any]]:
        """Return fields of rows, as far as they are there, in any order."""
        step = self._page()
        found: list[dict[str, Any]] = []
        wanted = np.unique(keys[(keys >= 0) & (keys < self._state.next_key)])
        for start in range(0, len(wanted), step):
            listed = ", ".join(map(str, wanted[start : start + step].tolist()))
            found += self._call(
                owner,
                "query",
                self._state.collection,
                filter=f"key in [{listed}]",
                output_fields=["key", *fields],
            )
        return found

    def _pages(self, owner: str, fields: list[str], wanted: str) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows that meet an expression, by ranges of keys."""
        step = self._page()
        for start in range(0, self._state.next_key, step):
            yield self._call(
                owner,
                "query",
                self._state.collection,
                filter=f"key >= {start} and key < {start + step} and ({wanted})",
                output_fields=fields,
            )

    def _page(self) -> int:
        return max(1, min(_PAGE, _BATCH // self.facts.dim))

    def _count(self, owner: str) -> int:
        """Return the number of rows."""
        found = self._call(
            owner,
            "query",
            self._state.collection,
            filter=self._filter(()),
            output_fields=["count(*)"],
        )
        return int(found[0]["count(*)"])

    def _load(self, owner: str) -> None:
        """Have Milvus ready to search the rows of the state."""
        self._texts.clear()
        self._call(owner, "load_collection", self._state.collection)
        self._num_images = self._count(owner)

    def _commit(self, owner: str, state: MilvusState) -> None:
        """Make a state the one that is seen."""
        if self.path is not None:  # a server has a log, Lite writes its file when it is flushed
            self._call(owner, "flush", state.collection)
        self._states.write(owner, state)
        if self.path is not None:
            self._call(owner, "flush", self._states.name)
        self._state = state
        self._load(owner)

    def _call(self, owner: str, method: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        function: Callable[..., Any] = getattr(self._connection.client, method)
        return self._connection.call(owner, function, *arguments, **options)

    def _no_structure(self, owner: str) -> ValueError:
        return ValueError(
            f"{owner}: {self.name} has no approximate structure of faiss: Milvus compares all "
            "vectors, on all of its machines. Leave out approximate."
        )


def build_milvus(
    owner: str,
    connection: MilvusConnection,
    facts: StoreFacts,
    rows: EmbeddingRows,
    records: Sequence[ImageRecord] | None,
) -> MilvusStore:
    """Write a new index to Milvus, which appears when it is complete, and open it.

    Raises:
        ValueError: If there is one, embeddings are float64, or the server fails.
    """
    name = connection.address.name
    states = StateCollection(connection)
    if states.exists(owner):
        raise ValueError(
            f"{owner}: {name} exists. Choose another name, as in milvus:...#photos, or open the "
            "index and add to it."
        )
    if facts.dtype != "float32":
        raise ValueError(
            f"{owner}: embeddings are float64, and Milvus keeps float32. Convert them by float() "
            "if what is lost does not matter, or use a folder."
        )

    columns = all_columns(records, ())
    collection = new_collection(owner, connection, facts.dim)
    try:
        keys = np.arange(len(rows))
        insert_rows(owner, connection, collection, rows, keys, records, columns)
        if connection.address.path is not None:
            connection.call(owner, connection.client.flush, collection)
        states.create(owner)
        states.write(owner, MilvusState(collection, facts, columns, len(rows), generation=1))
    except BaseException:
        connection.call(owner, connection.client.drop_collection, collection)
        raise
    return MilvusStore(owner, connection)


def all_columns(records: Sequence[ImageRecord] | None, known: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of records behind those that are known, in a fixed order."""
    if records is None:
        return tuple(known)

    further = {name for record in records for name in record.extra}
    later = [name for name in LATER if any(getattr(record, name) is not None for record in records)]
    return tuple(dict.fromkeys([*known, *FIELDS, *later, *sorted(further)]))


def new_collection(owner: str, connection: MilvusConnection, dim: int) -> str:
    """Create a collection for rows under a name that nothing has, and return the name."""
    from pymilvus import DataType, MilvusClient

    name = f"{connection.address.collection}_{secrets.token_hex(4)}"
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    schema.add_field("record", DataType.VARCHAR, max_length=65_535)
    schema.add_field("columns", DataType.JSON)
    schema.add_field("numbers", DataType.JSON)

    parameters = MilvusClient.prepare_index_params()
    parameters.add_index("vector", index_type="FLAT", metric_type="COSINE")
    connection.call(
        owner,
        connection.client.create_collection,
        name,
        schema=schema,
        index_params=parameters,
        consistency_level="Strong",
    )
    return name


def _exact_hits(query: Tensor, hits: Sequence[Any]) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """Return the keys of the hits of one query (1, D), nearest first, and their similarities."""
    keys = np.array([_key(hit) for hit in hits], dtype=np.int64)
    found = [list(hit["entity"]["vector"]) for hit in hits]
    vectors = torch.tensor(found, dtype=torch.float32, device="cpu")
    similarities = exact_pairs(query, np.zeros(len(keys), dtype=np.int64), vectors)

    # Of equals the lower key first.
    order = np.lexsort((keys, -similarities))
    return keys[order], similarities[order]


def insert_rows(
    owner: str,
    connection: MilvusConnection,
    collection: str,
    embeddings: EmbeddingRows,
    keys: IntArray,
    records: Sequence[ImageRecord] | None,
    columns: Sequence[str],
) -> None:
    """Insert rows, a batch at a time."""
    step = max(1, min(_PAGE, _BATCH // embeddings.shape[1]))
    client = connection.client
    for start in range(0, len(embeddings), step):
        stop = min(start + step, len(embeddings))
        vectors = embeddings.block(start, stop).float().tolist()

        batch = []
        for position, vector in enumerate(vectors, start=start):
            record = None if records is None else records[position]
            described = _described(owner, record, columns)
            batch.append({"key": int(keys[position]), "vector": vector, **described})
        # an insertion that is made twice would double the rows
        connection.call(owner, client.insert, collection, batch, again=client.upsert)


def _described(owner: str, record: ImageRecord | None, columns: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a row that hold its record, and the columns to search by."""
    if record is None:
        return {"record": "", "columns": {}, "numbers": {}}

    texts, numbers = column_values(record, columns)
    return {"record": _write_record(owner, record), "columns": texts, "numbers": numbers}


def _write_record(owner: str, record: ImageRecord) -> str:
    """Return a record as text."""
    for name, value in record.extra.items():
        check_extra(name, [value], [record])

    values = {name: getattr(record, name) for name in FIELDS}
    for name in LATER:
        if getattr(record, name) is not None:
            values[name] = getattr(record, name)
    text = json.dumps({**values, "extra": dict(record.extra)})
    if len(text) > _LONGEST_RECORD:
        raise ValueError(
            f"{owner}: the record of {record.path[:200]} has {len(text)} characters, and Milvus "
            f"keeps {_LONGEST_RECORD}. Shorten its columns."
        )
    return text


def _read_record(text: str) -> ImageRecord:
    """Return the record of a text."""
    try:
        return ImageRecord(**parse_json(text))
    except (TypeError, ValueError) as error:
        raise ValueError(f"GalleryIndex: Milvus returned a damaged record ({error}).") from error


def _check_present(owner: str, rows: IntArray, found: Container[int]) -> None:
    """Raise ValueError if one of the rows was not found."""
    present = [row if row in found else -1 for row in rows.tolist()]
    check_known(owner, rows, np.array(present, dtype=np.int64))


def _is_open(hits: Sequence[Any], count: int, limit: int) -> bool:
    """Return whether rows beyond the last candidate may be as near as the last one wanted."""
    if len(hits) < limit or len(hits) < count:
        return False
    return bool(hits[count - 1]["distance"] - hits[-1]["distance"] <= _ROUNDING)


def _key(hit: Any) -> int:  # noqa: ANN401
    """Return the key of a hit, which servers before 2.4 call ``id``."""
    return int(hit["key"] if "key" in hit else hit["id"])

"""The state of an index in Milvus: what a manifest is in a folder, as rows of a small collection.

Every change adds the whole state as a new generation, and older ones are deleted afterwards. So
there is always a complete state, whenever a writer or a server is killed.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from clipreid_kit._read_files import InvalidJsonError, parse_json
from clipreid_kit.retrieval.engines.gallery_store import StoreFacts
from clipreid_kit.retrieval.engines.milvus_connection import MilvusConnection

_FORMAT = "clipreid_kit gallery index in Milvus"
_VERSION = 1
_PART = 50_000  # characters of a row: a text of Milvus holds 65,535 bytes
_MOST_PARTS = 1000
_FIELDS = {"id", "unused", "part"}


@dataclass(frozen=True)
class MilvusState:
    """The state of an index.

    Attributes:
        collection: The collection of the rows.
        facts: What is known of the embeddings.
        columns: Columns of the records; their positions name them in expressions.
        next_key: Key of the next row; rows from there on belong to no finished change.
        generation: Counts the changes.
    """

    collection: str
    facts: StoreFacts
    columns: tuple[str, ...]
    next_key: int
    generation: int = 0

    def next(self, **changes: Any) -> "MilvusState":  # noqa: ANN401
        """Return the state of the next generation."""
        return replace(self, generation=self.generation + 1, **changes)


@dataclass
class StateCollection:
    """The small collection that holds the state of an index.

    Attributes:
        connection: The Milvus.
        name: Name of the collection.
    """

    connection: MilvusConnection
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"{self.connection.address.collection}_state"

    def exists(self, owner: str) -> bool:
        """Return whether there is such a collection."""
        call, client = self.connection.call, self.connection.client
        return bool(call(owner, client.has_collection, self.name))

    def create(self, owner: str) -> None:
        """Create the collection."""
        from pymilvus import DataType, MilvusClient

        call, client = self.connection.call, self.connection.client
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("unused", DataType.FLOAT_VECTOR, dim=2)  # Milvus wants a vector
        schema.add_field("part", DataType.VARCHAR, max_length=65_535)
        parameters = MilvusClient.prepare_index_params()
        parameters.add_index("unused", index_type="FLAT", metric_type="L2")
        call(
            owner,
            client.create_collection,
            self.name,
            schema=schema,
            index_params=parameters,
            consistency_level="Strong",
        )

    def write(self, owner: str, state: MilvusState) -> None:
        """Add a state, and delete older ones but the last."""
        content = {"format": _FORMAT, "version": _VERSION, **asdict(state)}
        text = json.dumps(content)
        parts = [text[start : start + _PART] for start in range(0, len(text), _PART)]
        if len(parts) > _MOST_PARTS:
            raise ValueError(f"{owner}: the calibration or the source of the encoder is too large.")

        head = f"{len(parts)} {zlib.crc32(text.encode())} "
        first = state.generation * _MOST_PARTS
        rows = [
            {"id": first + number, "unused": [0.0, 0.0], "part": head + part}
            for number, part in enumerate(parts)
        ]
        call, client = self.connection.call, self.connection.client
        call(owner, client.insert, self.name, rows, again=client.upsert)
        before = (state.generation - 1) * _MOST_PARTS
        if before > 0:
            call(owner, client.delete, self.name, filter=f"id < {before}")

    def read(self, owner: str) -> MilvusState:
        """Return the newest complete state.

        Raises:
            ValueError: If there is no index, or the collection belongs to another program.
        """
        name = self.connection.address.name
        call, client = self.connection.call, self.connection.client
        if not self.exists(owner):
            raise ValueError(
                f"{name}: there is no index. Build one with GalleryIndex.build(store=...)."
            )
        described = call(owner, client.describe_collection, self.name)
        if {one["name"] for one in described["fields"]} != _FIELDS:
            raise ValueError(
                f"{name}: the collection {self.name} belongs to another program. Choose another "
                "name, as in milvus:...#photos."
            )

        call(owner, client.load_collection, self.name)
        found = call(owner, client.query, self.name, filter="id >= 0", output_fields=["id", "part"])
        parts = {int(row["id"]): str(row["part"]) for row in found}
        for generation in sorted({number // _MOST_PARTS for number in parts}, reverse=True):
            text = _join(parts, generation)
            if text is not None:
                return _parse(name, text)
        raise ValueError(f"{name}: the state of the index is missing or damaged; build it again.")


def _join(parts: dict[int, str], generation: int) -> str | None:
    """Return the text of a generation; ``None`` if it is not complete."""
    # Each part begins with the number of parts, the checksum of the whole text, and a space.
    first = generation * _MOST_PARTS
    head = parts.get(first, "").split(" ", 2)
    if len(head) < 3 or not (head[0].isdigit() and head[1].isdigit()):
        return None
    num_parts, checksum = int(head[0]), int(head[1])

    pieces = [parts.get(first + number, "") for number in range(num_parts)]
    text = "".join(piece.split(" ", 2)[-1] for piece in pieces)
    return text if zlib.crc32(text.encode()) == checksum else None


def _parse(name: str, text: str) -> MilvusState:
    """Read a state."""
    try:
        content = parse_json(text)
    except InvalidJsonError as error:
        raise ValueError(f"{name}: the state of the index is damaged: {error}.") from error

    if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
        raise ValueError(f"{name}: this is not the state of a gallery index.")
    version = content.pop("version", None)
    if version != _VERSION:
        raise ValueError(
            f"{name}: the index has format version {version}, and this version of clipreid_kit "
            f"reads {_VERSION}. Update clipreid_kit, or build the index again."
        )
    facts = StoreFacts(**content.pop("facts"))
    columns: Sequence[str] = content.pop("columns")
    return MilvusState(facts=facts, columns=tuple(columns), **content)

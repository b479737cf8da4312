"""What is particular to Milvus: its state, writers that were killed, and collections of others."""

import copy
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("pymilvus", reason="pip install clipreid_kit[milvus]")

from gallery_of import records_of

from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import GalleryIndex
from clipreid_kit.retrieval.engines.gallery_store import Reencoded, StoreFacts
from clipreid_kit.retrieval.engines.milvus_store import insert_rows

BUILDER = """
import sys
import numpy as np
from clipreid_kit.retrieval import GalleryIndex

GalleryIndex.build(np.ones((1, 4), dtype=np.float32), store=sys.argv[1])
"""
WRITER = """
import sys
import numpy as np
from clipreid_kit.retrieval import GalleryIndex

index = GalleryIndex.open(sys.argv[1])
for number in range(1000):
    index.add(np.full((3, 4), number + 1, dtype=np.float32))
    print(len(index), flush=True)
"""


def rows_of(count, dim=4, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    return f"milvus:{tmp_path}/gallery.db"


@pytest.fixture
def index(store):
    return GalleryIndex.build(rows_of(20), records_of(20), store=store)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
def test_a_connection_is_not_copied(index, copied):
    with pytest.raises(TypeError, match=r"^GalleryIndex: milvus:.* Call GalleryIndex\.open where"):
        copied(index)


def test_rows_of_a_killed_writer_are_not_found(index, store):
    inner = index._store
    rows = EmbeddingRows("a test", "embeddings", rows_of(5, seed=1))
    collection, columns = inner._state.collection, inner._state.columns
    insert_rows(
        "a test", inner._connection, collection, rows, np.arange(20, 25), records_of(5), columns
    )

    again = GalleryIndex.open(store)
    assert len(again) == 20
    assert again.keys().tolist() == list(range(20))
    assert again.search(rows_of(5, seed=1), 1).keys.max() < 20
    again.verify()
    assert again.add(rows_of(2, seed=2), records_of(2)).tolist() == [20, 21]
    assert GalleryIndex.open(store).keys().tolist() == list(range(22))


@pytest.mark.slow
def test_a_writer_that_is_killed_loses_nothing_acknowledged(tmp_path):
    store = f"milvus:{tmp_path}/gallery.db"
    subprocess.run([sys.executable, "-c", BUILDER, store], check=True, timeout=600)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, store], stdout=subprocess.PIPE, text=True
    )
    for _ in range(4):
        acknowledged = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    writer.communicate()

    index = GalleryIndex.open(store)
    assert len(index) >= acknowledged == 13
    assert (len(index) - 1) % 3 == 0  # whole additions
    index.verify()


def test_a_collection_of_another_program(tmp_path):
    from pymilvus import MilvusClient

    client = MilvusClient(f"{tmp_path}/theirs.db")
    client.create_collection("photos_state", dimension=2)
    client.close()
    store = f"milvus:{tmp_path}/theirs.db#photos"
    with pytest.raises(ValueError, match="the collection photos_state belongs to another program"):
        GalleryIndex.open(store)
    with pytest.raises(ValueError, match=r"theirs\.db#photos exists"):
        GalleryIndex.build(rows_of(2), store=store)
    assert len(GalleryIndex.build(rows_of(2), store=store.replace("photos", "ours"))) == 2


def test_a_reader_of_vectors_that_were_replaced(index, store):
    def reencode(records):
        rows = EmbeddingRows("a test", "embeddings", rows_of(len(records) - 1, dim=6))
        facts = StoreFacts(6, "float32", "new", has_records=True)
        return Reencoded(np.arange(1, len(records)), rows, records[1:], facts)

    reader = GalleryIndex.open(store)
    index._store.reembed("a test", reencode)
    assert (index.info().dim, index.info().fingerprint) == (6, "new")
    assert index.keys().tolist() == list(range(1, 20))
    with pytest.raises(ValueError, match="has been encoded again by another model: call reload"):
        reader.search(rows_of(1), 1)
    with pytest.raises(ValueError, match="has been encoded by another model since"):
        reader.add(rows_of(1), records_of(1))
    reader.reload()
    assert len(reader.search(rows_of(1, dim=6), 3)[0]) == 3


def test_what_milvus_cannot_keep(index, store, tmp_path):
    long = [ImageRecord("a.jpg", 1, caption="x" * 70_000)]
    with pytest.raises(ValueError, match=r"the record of a\.jpg has .* characters"):
        index.add(rows_of(1), long)
    with pytest.raises(ValueError, match="embeddings are float64, and Milvus keeps float32"):
        GalleryIndex.build(rows_of(2).astype(np.float64), store=f"milvus:{tmp_path}/other.db")
    with pytest.raises(ValueError, match="Milvus compares all vectors"):
        index.build_approximate("HNSW32")
    with pytest.raises(ValueError, match="has no approximate structure of faiss"):
        index.search(rows_of(1), 1, approximate=True)
    with pytest.raises(ValueError, match="goes with a folder"):
        GalleryIndex.build(rows_of(2), store=f"milvus:{tmp_path}/other.db", approximate="Flat")
    assert GalleryIndex.open(store).keys().tolist() == list(range(20))

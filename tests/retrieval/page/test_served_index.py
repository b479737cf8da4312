"""The page shows what was written to an index, and one state in one answer."""

import shutil
import threading

import numpy as np
import pytest

from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import GalleryIndex
from clipreid_kit.retrieval.page.request_error import RequestError
from clipreid_kit.retrieval.page.served_index import ServedIndex


def served(index):
    return ServedIndex(index, threading.Lock())


def test_changes_are_seen_and_earlier_states_stay(index, records):
    page = served(GalleryIndex.open(index.path))
    before = page.state()
    assert page.state() is before, "nothing was written"

    index.add([records[0]])
    after = page.state()
    assert (len(before.index), len(after.index)) == (12, 13)
    assert after.encoder is before.encoder, "the model is not opened again"
    assert (after.info.generation, before.info.generation) == (2, 1)
    index.remove([0])
    with pytest.raises(RequestError, match="no image with key 0"):
        page.state().record(0)
    assert before.record(0) == records[0]


def test_another_model(index, other_encoder, records):
    page = served(GalleryIndex.open(index.path))
    first = page.embed_text(page.state(), "a coat")
    index.reembed(other_encoder)
    second = page.embed_text(page.state(), "a coat")
    assert not np.allclose(first, second)
    assert page.state().info.fingerprint == other_encoder.fingerprint


def test_a_model_in_memory_stays_after_a_change(tmp_path, encoder):
    rows = np.eye(3, 128, dtype=np.float32)
    records = [ImageRecord(f"{n}.jpg", str(n)) for n in range(3)]
    index = GalleryIndex.build(rows, records, store=tmp_path / "i")
    page = served(GalleryIndex.open(tmp_path / "i", encoder=encoder))
    index.remove([0])
    assert page.state().encoder is encoder
    assert len(page.state().index) == 2


def test_an_index_that_is_gone(index):
    page = served(index)
    shutil.rmtree(index.path)
    with pytest.raises(RequestError, match="not an index") as caught:
        page.state()
    assert caught.value.status == 503


def test_a_query_is_encoded_once(index, encoder, monkeypatch):
    page = served(index)
    count = []
    encode = encoder.encode_texts
    monkeypatch.setattr(encoder, "encode_texts", lambda text: count.append(text) or encode(text))
    for _ in range(3):
        page.embed_text(page.state(), "a coat")
    assert count == ["a coat"]


def test_changes_of_an_index_in_milvus_are_seen(tmp_path, monkeypatch):
    pytest.importorskip("milvus_lite", reason="pip install clipreid_kit[milvus]")
    index = GalleryIndex.build(np.eye(3, dtype=np.float32), store=f"milvus:{tmp_path}/g.db")
    page = served(index)
    before = page.state()
    GalleryIndex.open(index.name).remove([0])
    assert page.state() is before, "it is asked every two seconds"

    monkeypatch.setattr(page, "_seconds", 0.0)
    after = page.state()
    assert (len(after.index), after.index.keys().tolist()) == (2, [1, 2])
    assert page.state() is after, "nothing was written"
    assert page.name == "g.db"

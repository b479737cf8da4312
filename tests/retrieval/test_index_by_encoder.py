"""An index that is built, searched and changed by an encoder, which it finds again."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_towers import tiny_towers
from torch import nn

from clipreid_kit.clip import ClipReID, TrainingCheckpoints, save_towers
from clipreid_kit.data import ImageRecord, eval_transform
from clipreid_kit.retrieval import Encoder, GalleryIndex


def towers_of(seed=0, size=(16, 16)):
    return tiny_towers(image_size=size, seed=seed)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    records = []
    for number in range(6):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path)
        records.append(ImageRecord(str(path), number // 2, camera=number % 2))
    return records


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "towers"
    save_towers(towers_of(), folder)
    return folder


@pytest.fixture
def store(tmp_path):
    return tmp_path / "gallery.index"


def test_from_a_folder_to_answers(saved, records, store):
    encoder = Encoder.open(saved)
    GalleryIndex.build(encoder, records, store=store)
    index = GalleryIndex.open(store)
    assert index.info().fingerprint == encoder.fingerprint
    assert index.info().encoder["path"] == str(saved)

    for number, record in enumerate(records):
        hit = index.search_image(record.path, k=1)[0][0]
        assert (hit.key, hit.record) == (number, record)
        assert hit.similarity == pytest.approx(1)

    result = index.search_image(records[0].path, k=2, where={"camera": 1})
    assert all(hit.record.camera == 1 for hit in result[0])
    assert len(index.search_image([r.path for r in records[:2]], k=1, combine="mean")) == 1

    by_text = index.search_text("a red coat", k=3)
    by_vector = index.search(encoder.encode_texts("a red coat"), k=3)
    assert np.array_equal(by_text.keys, by_vector.keys)


def test_records_are_added_by_the_encoder_of_the_index(saved, records, store):
    GalleryIndex.build(Encoder.open(saved), records[:4], store=store)
    index = GalleryIndex.open(store)
    assert index.add(records[4:]).tolist() == [4, 5]
    assert index.search_image(records[5].path, k=1)[0][0].key == 5
    with pytest.raises(ValueError, match="pass embeddings and records, or records alone"):
        index.add(records, records)


def test_a_model_that_moved_along_is_found(tmp_path, records):
    (tmp_path / "a").mkdir()
    save_towers(towers_of(), tmp_path / "a" / "model")
    encoder = Encoder.open(tmp_path / "a" / "model")
    GalleryIndex.build(encoder, records, store=tmp_path / "a" / "gallery.index")
    shutil.move(tmp_path / "a", tmp_path / "b")
    index = GalleryIndex.open(tmp_path / "b" / "gallery.index")
    assert index.search_image(records[2].path, k=1)[0][0].key == 2

    shutil.rmtree(tmp_path / "b" / "model")
    lost = GalleryIndex.open(tmp_path / "b" / "gallery.index")
    with pytest.raises(ValueError, match=r"cannot open the encoder of the index .* encoder=\.\.\."):
        lost.search_image(records[2].path, k=1)
    given = GalleryIndex.open(tmp_path / "b" / "gallery.index", encoder=encoder)
    assert given.search_image(records[2].path, k=1)[0][0].key == 2


def test_a_query_by_another_model_is_refused(saved, records, store, tmp_path):
    GalleryIndex.build(Encoder.open(saved), records, store=store)
    other = Encoder(towers_of(seed=1))
    with pytest.raises(ValueError, match=r"was built by another model .*index\.reembed"):
        GalleryIndex.open(store, encoder=other)

    # the model behind the path has changed
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    GalleryIndex.build(Encoder.open(copy), records, store=tmp_path / "b.index")
    save_towers(towers_of(seed=1), copy)
    with pytest.raises(ValueError, match="was built by another model"):
        GalleryIndex.open(tmp_path / "b.index").search_image(records[0].path, k=1)


def test_a_model_in_memory_is_not_remembered(records, store):
    encoder = Encoder(towers_of())
    built = GalleryIndex.build(encoder, records, store=store)
    assert built.encoder is encoder
    with pytest.raises(ValueError, match="does not know its encoder: it was built from"):
        GalleryIndex.open(store).search_text("a cup", k=1)
    assert len(GalleryIndex.open(store, encoder=encoder).search_text("a cup", k=2)[0]) == 2


def test_reembedding_replaces_all_in_one_step(saved, records, store, tmp_path):
    index = GalleryIndex.build(Encoder.open(saved), records[:4], store=store)
    index.add(records[4:])
    index.remove([1])
    reader = GalleryIndex.open(store)

    method = ClipReID(towers_of(), None, num_identities=3, weights={"id": 1.0, "triplet": 1.0})
    TrainingCheckpoints(tmp_path / "run" / "checkpoints").save(1, method, {}, best=True)
    new = Encoder.open(tmp_path / "run")
    index.reembed(new)

    info = index.info()
    assert (info.fingerprint, info.num_segments, info.num_removed) == (new.fingerprint, 1, 0)
    assert info.dim == method.towers.width + method.towers.embed_dim
    assert index.search_image(records[4].path, k=5)[0][0].key == 4
    assert sorted(index.search_image(records[4].path, k=5).keys[0]) == [0, 2, 3, 4, 5]

    # who reads sees the old state until it reloads, and then finds the new model
    assert reader.search_image(records[2].path, k=5)[0][0].key == 2
    reader.reload()
    assert reader.search_image(records[4].path, k=1)[0][0].key == 4
    with pytest.raises(ValueError, match="texts cannot be compared with these images"):
        reader.search_text("a coat", k=1)


def test_a_failed_reembedding_changes_nothing(saved, records, store, tmp_path):
    gone = tmp_path / "gone.png"
    shutil.copy(records[0].path, gone)
    index = GalleryIndex.build(
        Encoder.open(saved), [*records, ImageRecord(str(gone), 9)], store=store
    )
    gone.unlink()
    before = index.info()
    other = Encoder(towers_of(seed=1))
    with pytest.raises(ValueError, match=r"cannot read .*gone\.png"):
        index.reembed(other)
    assert GalleryIndex.open(store).info() == before

    index.reembed(other, on_error="skip")
    assert [item.path for item in index.skipped] == [str(gone)]
    assert len(index) == 6


def test_unreadable_images(saved, records, store, tmp_path):
    odd = [*records, ImageRecord(str(tmp_path / "gone.png"), 9)]
    encoder = Encoder.open(saved)
    with pytest.raises(ValueError, match=r"cannot read .*gone\.png"):
        GalleryIndex.build(encoder, odd, store=store)
    assert not store.exists()

    index = GalleryIndex.build(encoder, odd, store=store, on_error="skip")
    assert len(index) == 6
    assert [item.path for item in index.skipped] == [str(tmp_path / "gone.png")]
    with pytest.raises(ValueError, match=r"cannot read .*query\.jpg: there is no such file"):
        index.search_image(tmp_path / "query.jpg", k=1)
    with pytest.raises(ValueError, match="k is 7, but the index holds 6 images"):
        index.search_image(records[0].path, k=7)
    assert index.add(odd, on_error="skip").tolist() == [6, 7, 8, 9, 10, 11]
    assert len(index.skipped) == 1


def test_text_for_a_model_without_a_text_tower(records, store):
    class Mean(nn.Module):
        def forward(self, batch):
            return torch.cat([batch.mean((2, 3)), batch.std((2, 3))], dim=1)

    index = GalleryIndex.build(Encoder(Mean(), eval_transform(8)), records, store=store)
    with pytest.raises(ValueError, match=r"texts cannot be compared .* Mean has no text tower"):
        index.search_text("a coat", k=1)


@pytest.mark.parametrize("texts", ["", " \n", ["a coat", ""]])
def test_an_empty_text_is_refused(texts, saved, records, store):
    index = GalleryIndex.build(Encoder.open(saved), records, store=store)
    with pytest.raises(ValueError, match=r"search_text: .* is empty. Write a sentence"):
        index.search_text(texts, k=1)


def test_mistakes_of_building(records, store):
    encoder = Encoder(towers_of())
    with pytest.raises(ValueError, match="an encoder needs records to encode"):
        GalleryIndex.build(encoder, store=store)
    with pytest.raises(ValueError, match=r"leave out fingerprint=; the encoder has its own"):
        GalleryIndex.build(encoder, records, store=store, fingerprint="x")

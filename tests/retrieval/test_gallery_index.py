"""The index against a list in memory and brute force; snapshots, writers, and bad input."""

import copy
import json
import os
import pickle

import numpy as np
import pytest
import torch
from gallery_of import records_of, similarities
from hypothesis import given, settings
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import Between, GalleryIndex, Not
from clipreid_kit.retrieval.store import manifest as manifest_module
from clipreid_kit.retrieval.store import tensor_file
from clipreid_kit.retrieval.store.writer_lock import writer_lock


def rows_of(count, dim=6, seed=0):
    rng = np.random.default_rng(seed)
    # few distinct numbers: many ties and copies
    return rng.integers(-1, 2, (count, dim)).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "gallery.index"


@pytest.fixture
def index(store):
    return GalleryIndex.build(rows_of(40), records_of(40), store=store)


CONDITIONS = {
    "camera": [1, [2, "gate"], None, Not([1, None])],
    "identity": [2, [0, 3], Not(1), Between(1, 2)],
    "split": ["query", Not("query")],
    "frame": [Between(20, 70), Between(None, 30), Not(Between(50, None)), "17"],
    "path": ["images/3.jpg", Between("images/2", "images/3")],
}


def meets(condition, value):
    """Say in words of the tests what a condition means."""
    if isinstance(condition, Not):
        return not meets(condition.condition, value)
    if isinstance(condition, Between):
        if value is None:
            return False
        number = isinstance(condition.low, int) or isinstance(condition.high, int)
        value = float(value) if number else value
        low = condition.low is None or condition.low <= value
        return low and (condition.high is None or value <= condition.high)
    return value in condition if isinstance(condition, list) else value == condition


def value_of(record, column):
    return record.extra.get(column) if column == "frame" else getattr(record, column)


class Model:
    """What the index should hold, as lists."""

    def __init__(self):
        self.rows, self.records, self.keys, self.next_key = [], [], [], 0

    def add(self, rows, records):
        self.rows += list(rows)
        self.records += records
        self.keys += range(self.next_key, self.next_key + len(records))
        self.next_key += len(records)

    def remove(self, keys):
        kept = [i for i, key in enumerate(self.keys) if key not in keys]
        self.rows = [self.rows[i] for i in kept]
        self.records = [self.records[i] for i in kept]
        self.keys = [self.keys[i] for i in kept]

    def search(self, query, k, where):
        chosen = [
            i
            for i, record in enumerate(self.records)
            if all(meets(condition, value_of(record, name)) for name, condition in where.items())
        ]
        values = similarities(query[None], np.array(self.rows))[0] if self.rows else []
        chosen.sort(key=lambda i: (-values[i], self.keys[i]))
        return [(self.keys[i], values[i], self.records[i]) for i in chosen[:k]]


@st.composite
def conditions(draw):
    names = draw(st.lists(st.sampled_from(sorted(CONDITIONS)), max_size=2, unique=True))
    return {name: draw(st.sampled_from(CONDITIONS[name])) for name in names}


@settings(max_examples=25)
@given(data=st.data())
def test_any_changes_in_any_order(tmp_path_factory, data):
    store = tmp_path_factory.mktemp("any") / "index"
    model = Model()
    model.add(rows_of(9), records_of(9))
    index = GalleryIndex.build(rows_of(9), records_of(9), store=store)

    for step in range(data.draw(st.integers(1, 6))):
        change = data.draw(st.sampled_from(["add", "remove", "compact", "reopen"]))
        if change == "add":
            count = data.draw(st.integers(1, 7))
            added = rows_of(count, seed=step), records_of(count, step, model.next_key)
            model.add(*added)
            index.add(*added)
        elif change == "remove":
            keys = data.draw(st.sets(st.sampled_from(model.keys), max_size=len(model.keys) - 1))
            model.remove(keys)
            index.remove(keys)
        elif change == "compact":
            index.compact()
        else:
            index = GalleryIndex.open(store)

    where = data.draw(conditions())
    query = rows_of(1, seed=data.draw(st.integers(0, 99)))[0]
    k = data.draw(st.integers(1, len(model.keys)))
    assert len(index) == len(model.keys)

    found = [
        (hit.key, hit.similarity, hit.record) for hit in index.search(query, k, where=where)[0]
    ]
    assert found == model.search(query, k, where)


def test_rows_follow_insertion_and_keys_stay(index):
    index.remove([0, 7])
    before = index.search(rows_of(3), 10)
    assert (before.rows == before.keys).all()

    index.compact()
    after = index.search(rows_of(3), 10)
    assert (after.keys == before.keys).all()
    assert (after.similarities == before.similarities).all()
    assert after.records == before.records
    assert index.info().num_removed == 0
    assert index.add(rows_of(1), records_of(1)).tolist() == [40]


def test_everything_removed_then_added_again(store):
    index = GalleryIndex.build(rows_of(3), store=store)
    index.remove(range(3))
    index.compact()
    assert len(index) == 0
    with pytest.raises(ValueError, match="k is 1, but the index holds 0 images"):
        index.search(rows_of(1), 1)
    assert index.add(rows_of(2)).tolist() == [3, 4]
    assert index.search(rows_of(1), 2)[0][0].record is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types_are_kept_without_loss(store, dtype):
    rows = torch.randn(50, 8, dtype=torch.float64).to(dtype)
    index = GalleryIndex.build(rows, store=store)
    result = index.search(rows[:4], 6)

    values = similarities(rows[:4], rows).clip(-1, 1)
    assert (result.similarities == np.take_along_axis(values, result.rows, 1)).all()
    assert result.rows[:, 0].tolist() == [0, 1, 2, 3]
    assert index.info().dtype == ("float64" if dtype == torch.float64 else "float32")


def test_float64_is_not_cut_to_float32(store):
    index = GalleryIndex.build(np.eye(3, dtype=np.float32), store=store)
    with pytest.raises(
        ValueError, match="add: embeddings are float64, but the index keeps float32"
    ):
        index.add(np.eye(3))


def test_a_memory_mapped_file_gives_the_same_index(tmp_path):
    rows = np.random.default_rng(0).standard_normal((700, 16)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    first = GalleryIndex.build(rows, store=tmp_path / "first")
    second = GalleryIndex.build(mapped, store=tmp_path / "second")
    segment = "segment-00000001.safetensors"
    assert (first.path / segment).read_bytes() == (second.path / segment).read_bytes()


def test_other_programs_can_read_the_embeddings(index):
    from safetensors.numpy import load_file

    arrays = load_file(index.path / "segment-00000001.safetensors")
    assert (arrays["vectors"] == rows_of(40)).all()


def test_conditions_name_the_nearest_column(index):
    with pytest.raises(ValueError, match=r"'camra', which is not a column .* mean 'camera'\?"):
        index.search(rows_of(1), 1, where={"camra": 1})


def test_conditions_without_records(store):
    index = GalleryIndex.build(rows_of(3), store=store)
    with pytest.raises(ValueError, match="where has 'camera', but the index was built without"):
        index.search(rows_of(1), 1, where={"camera": 1})


def test_fewer_images_than_asked_for_meet_the_conditions(index):
    result = index.search(rows_of(2), 5, where={"path": ["images/3.jpg", "images/5.jpg"]})
    assert result.rows.shape == (2, 2)
    assert index.search(rows_of(2), 5, where={"identity": "nobody"})[1] == []


def test_query_cameras(index):
    queries = rows_of(3, seed=5)
    result = index.search(queries, 30, query_cameras=[1, "gate", 1])
    for query, camera in enumerate([1, "gate", 1]):
        alone = index.search(queries[query], 30, where={"camera": Not(camera)})
        assert result[query] == alone[0]
        assert (result.rows[query, len(alone[0]) :] == -1).all()
        assert np.isnan(result.similarities[query, len(alone[0]) :]).all()

    with pytest.raises(ValueError, match="there are 1 query_cameras for 3 queries"):
        index.search(queries, 3, query_cameras=[1])
    with pytest.raises(ValueError, match='query_cameras has no meaning with combine="'):
        index.search(queries, 3, query_cameras=[1, 1, 1], combine="max")


def test_several_images_of_one_query(index):
    queries = np.random.default_rng(0).standard_normal((3, 6))
    values = similarities(queries, rows_of(40))

    nearest_to_any = index.search(queries, 7, combine="max")
    best = values.max(axis=0)
    assert nearest_to_any.rows.tolist() == [np.lexsort((np.arange(40), -best))[:7].tolist()]
    assert (nearest_to_any.similarities[0] == best[nearest_to_any.rows[0]]).all()

    mean = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).mean(axis=0)
    by_mean = index.search(queries, 7, combine="mean")
    assert by_mean.rows.tolist() == index.search(mean, 7).rows.tolist()
    assert len(index.search(queries, 7)) == 3


@pytest.mark.parametrize("combine", ["each", "max"])
def test_hits_by_identity(index, combine):
    queries = rows_of(2, seed=3)
    grouped = index.search(queries, 3, group_by="identity", combine=combine)
    everything = index.search(queries, 40, combine=combine)
    for hits, all_hits in zip(grouped, everything, strict=True):
        first = {}
        for hit in all_hits:
            first.setdefault(hit.record.identity, hit)
        assert hits == list(first.values())[:3]

    assert len(index.search(queries, 40, group_by="identity")[0]) == 4  # identities


def test_records_by_key(index):
    assert index.records([5, 2]) == [records_of(40)[5], records_of(40)[2]]
    index.remove([5])
    with pytest.raises(ValueError, match=r"records: the index has no image with key 5\."):
        index.records([5])


def test_info(index):
    index.remove([1])
    info = index.info()
    assert (info.num_images, info.num_removed, info.dim, info.num_segments) == (39, 1, 6, 1)
    assert info.columns == ("path", "identity", "camera", "view", "caption", "split", "frame")
    assert info.generation == 2
    files = [path.stat().st_size for path in index.path.glob("*.safetensors")]
    assert info.num_bytes == sum(files)


def test_modalities_are_kept_where_records_have_them(tmp_path):
    records = [ImageRecord("a.jpg", 1, modality="infrared"), ImageRecord("b.jpg", 2)]
    index = GalleryIndex.build(rows_of(2), records, store=tmp_path / "index")

    assert index.records([0, 1]) == records
    found = index.search(rows_of(2), 2, where={"modality": "infrared"})
    assert [hit.record.path for hit in found[0]] == ["a.jpg"]


def test_a_reader_keeps_its_snapshot(index, store):
    reader = GalleryIndex.open(store)
    before = reader.search(rows_of(4, seed=9), 20)
    index.remove(range(0, 40, 2))
    index.add(rows_of(5, seed=9), records_of(5))
    index.compact()

    after = reader.search(rows_of(4, seed=9), 20)
    assert (after.keys == before.keys).all()
    assert after.records == before.records
    reader.reload()
    assert len(reader) == len(index) == 25


def test_two_writers_are_one_error(index, store):
    other = GalleryIndex.open(store)
    with writer_lock("a writer", store):
        with pytest.raises(
            ValueError, match=r"add: another process is writing to .*gallery\.index"
        ):
            other.add(rows_of(1), records_of(1))
        with pytest.raises(ValueError, match="remove: another process"):
            other.remove([1])
    assert other.add(rows_of(1), records_of(1)).tolist() == [40]
    assert index.add(rows_of(1), records_of(1)).tolist() == [41]  # of the newest state


@pytest.mark.unhooked
def test_wrong_arguments(index, tmp_path):
    with pytest.raises(ValueError, match="build: embeddings has no rows"):
        GalleryIndex.build(rows_of(0), store=tmp_path / "empty")
    with pytest.raises(ValueError, match="got 3 embeddings for 2 records"):
        GalleryIndex.build(rows_of(3), records_of(2), store=tmp_path / "short")
    with pytest.raises(ValueError, match=r"build: .*gallery\.index exists"):
        GalleryIndex.build(rows_of(3), store=index.path)
    with pytest.raises(ValueError, match="finite embeddings, got NaN or infinity in 1 of 2 rows"):
        index.add(np.array([[1.0] * 6, [np.nan] * 6], dtype=np.float32), records_of(2))
    with pytest.raises(ValueError, match="finite vectors, got NaN"):
        index.search([np.nan] * 6)
    with pytest.raises(ValueError, match="k is 41, but the index holds 40 images"):
        index.search(rows_of(1), 41)
    with pytest.raises(ValueError, match="expected k as a whole number >= 1, got 0"):
        index.search(rows_of(1), 0)
    with pytest.raises(ValueError, match="vectors have 5 columns, and those of the index have 6"):
        index.search(rows_of(1, dim=5), 1)
    with pytest.raises(ValueError, match="add: the index has records; give records"):
        index.add(rows_of(1))
    with pytest.raises(ValueError, match="the index has no image with key 40, 99"):
        index.remove([3, 40, 99])
    with pytest.raises(ValueError, match="keys are whole numbers"):
        index.remove(["images/3.jpg"])
    with pytest.raises(ValueError, match="combine to be one of each, mean, max, got 'sum'"):
        index.search(rows_of(1), 1, combine="sum")
    with pytest.raises(ValueError, match=r"extra column 'box' of a\.jpg is a tuple"):
        index.add(rows_of(1), [ImageRecord("a.jpg", 1, extra={"box": (1, 2)})])
    assert len(GalleryIndex.open(index.path)) == 40
    assert [path.name for path in tmp_path.iterdir()] == ["gallery.index"]


def test_another_encoder_is_refused(store):
    index = GalleryIndex.build(rows_of(3), store=store, fingerprint="model-a")
    assert index.info().fingerprint == "model-a"
    assert len(index.search(rows_of(1), 1, fingerprint="model-a")) == 1
    with pytest.raises(ValueError, match="vectors come from the encoder 'model-b', but the index"):
        index.search(rows_of(1), 1, fingerprint="model-b")
    with pytest.raises(ValueError, match="embeddings come from the encoder 'model-b'"):
        index.add(rows_of(1), fingerprint="model-b")


def test_a_full_disk_leaves_the_old_index(index, monkeypatch):
    def fail(self, name, values):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tensor_file.TensorFileWriter, "append", fail)
        with pytest.raises(ValueError, match=r"No space left on device\. The index is unchanged"):
            index.add(rows_of(5), records_of(5))

    with monkeypatch.context() as patch:
        patch.setattr(manifest_module, "write_whole", lambda path, content: fail(0, 0, 0))
        with pytest.raises(ValueError, match=r"No space left on device\. The index is unchanged"):
            index.add(rows_of(5), records_of(5))

    assert sorted(path.name for path in index.path.iterdir()) == [
        "manifest.json",
        "segment-00000001.safetensors",
        "writer.lock",
    ]
    assert len(GalleryIndex.open(index.path)) == 40
    assert index.add(rows_of(5), records_of(5)).tolist() == [40, 41, 42, 43, 44]


def test_a_disk_that_fills_up(store):
    resource = pytest.importorskip("resource")  # POSIX
    index = GalleryIndex.build(rows_of(10), store=store)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"File too large\. The index is unchanged"):
            index.add(rows_of(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert len(GalleryIndex.open(store)) == 10
    assert len(list(store.glob("segment-*"))) == 1


def flip_a_byte(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_foreign_and_damaged_folders(index, tmp_path):
    with pytest.raises(ValueError, match=r"this is not an index: it has no manifest\.json"):
        GalleryIndex.open(tmp_path)
    (tmp_path / "file").write_text("hello")
    with pytest.raises(ValueError, match="file: this is a file; an index is a folder"):
        GalleryIndex.open(tmp_path / "file")

    manifest = index.path / "manifest.json"
    good = manifest.read_text()
    manifest.write_text(good[:-20])
    with pytest.raises(ValueError, match="it is not JSON; the file is damaged"):
        GalleryIndex.open(index.path)
    manifest.write_text('{"format": "another"}')
    with pytest.raises(ValueError, match="not the manifest of a gallery index"):
        GalleryIndex.open(index.path)
    manifest.write_text(json.dumps(json.loads(good) | {"version": 4}))
    with pytest.raises(ValueError, match=r"format version 4, and this version .* reads up to 3"):
        GalleryIndex.open(index.path)
    manifest.write_text(json.dumps(json.loads(good) | {"dim": 7}))
    with pytest.raises(ValueError, match="its checksum is wrong"):
        GalleryIndex.open(index.path)


def test_damaged_segments(store):
    rows = np.random.default_rng(0).standard_normal((6000, 64)).astype(np.float32)
    GalleryIndex.build(rows, store=store)
    segment = store / "segment-00000001.safetensors"
    good = segment.read_bytes()

    segment.write_bytes(good[:-1])
    with pytest.raises(ValueError, match=r"safetensors: it has \d+ bytes instead of \d+"):
        GalleryIndex.open(store)

    segment.unlink()
    segment.mkdir()
    with pytest.raises(ValueError, match=r"segment-00000001\.safetensors: .*[Ii]s a directory"):
        GalleryIndex.open(store)

    segment.rmdir()
    segment.write_bytes(good)
    flip_a_byte(segment, 30)
    with pytest.raises(ValueError, match="its header is not the one that was written"):
        GalleryIndex.open(store)

    # a large array is checked where it is read
    position = good.index(rows[3000].tobytes())
    segment.write_bytes(good)
    flip_a_byte(segment, position)
    index = GalleryIndex.open(store)
    with pytest.raises(
        ValueError, match=r"rows 2560 to 3071 of 'vectors' are not what was written"
    ):
        index.search(rows[3000], 1)
    with pytest.raises(ValueError, match="of 'vectors' are not what was written"):
        index.verify()

    segment.unlink()
    with pytest.raises(ValueError, match=r"lacks the file segment-00000001\.safetensors"):
        GalleryIndex.open(store)
    segment.write_bytes(good)
    GalleryIndex.open(store).verify()


def test_every_byte_of_a_segment_counts(store):
    GalleryIndex.build(rows_of(5), records_of(5), store=store)
    segment = store / "segment-00000001.safetensors"
    good = segment.read_bytes()
    for position in range(0, len(good), 37):
        flip_a_byte(segment, position)
        with pytest.raises(ValueError, match="damaged or was edited"):
            GalleryIndex.open(store).verify()
        segment.write_bytes(good)


def test_only_files_of_the_index_are_deleted(store):
    index = GalleryIndex.build(np.eye(4), store=store)
    names = (
        "segment-notes.txt",
        "segment-00000001-copy.safetensors",
        "removed-mine.csv",
        f".{manifest_module.NAME}.mine",
    )
    for name in names:
        (store / name).write_text("mine")
    (store / "segment-00000009.safetensors").write_text("left by a killed writer")
    (store / "segment-copies").mkdir()

    index.add(np.eye(4))
    index.compact()
    left = {path.name for path in store.iterdir()}
    assert left >= {*names, "segment-copies"}
    assert "segment-00000009.safetensors" not in left
    assert len(GalleryIndex.open(store)) == 8


def test_an_index_is_built_where_a_link_leads(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    GalleryIndex.build(np.eye(4), store=tmp_path / "link")

    assert (tmp_path / "link").is_symlink()
    assert len(GalleryIndex.open(tmp_path / "disk")) == 4


def test_pipes_and_endless_links_are_no_index(store, tmp_path):
    GalleryIndex.build(np.eye(4), store=store)
    (store / manifest_module.NAME).unlink()
    os.mkfifo(store / manifest_module.NAME)
    with pytest.raises(ValueError, match="cannot read the index: it is a named pipe"):
        GalleryIndex.open(store)

    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match="cannot read the index: OSError"):
        GalleryIndex.open(tmp_path / "loop")


def test_similarities_do_not_leave_their_range(store):
    rows = np.random.default_rng(0).standard_normal((40, 96)).astype(np.float32)
    index = GalleryIndex.build(rows, store=store)
    to_itself, to_the_opposite = index.search(rows, k=1), index.search(-rows, k=40)
    assert to_itself.similarities.max() == 1
    assert to_the_opposite.similarities.min() == -1
    assert to_itself.rows[:, 0].tolist() == list(range(40))
    index.add(3 * rows)
    assert index.neighbours(1).similarities.max() == 1


def test_vectors_and_columns_by_key(store):
    rows = rows_of(6) + np.arange(6, dtype=np.float32)[:, None]
    records = [ImageRecord(f"{n}.jpg", n, extra={"frame": str(n)} if n else {}) for n in range(6)]
    index = GalleryIndex.build(rows[:4], records[:4], store=store)
    index.add(rows[4:], records[4:])
    index.remove([1])

    assert np.array_equal(index.vectors([5, 0, 3]), rows[[5, 0, 3]])
    assert tuple(index.vectors([]).shape) == (0, 6)
    assert index.column("identity") == [0, 2, 3, 4, 5]
    assert index.column("frame") == [None, "2", "3", "4", "5"]
    with pytest.raises(ValueError, match="no image with key 1"):
        index.vectors([1])
    with pytest.raises(ValueError, match="'identity'"):
        index.column("identiti")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda index: pickle.loads(pickle.dumps(index))])
def test_a_copy_opens_the_folder_again(index, monkeypatch, tmp_path, copied):
    monkeypatch.chdir(tmp_path)
    opened = GalleryIndex.open("gallery.index")
    pickled = pickle.dumps(opened)
    index.remove([0])

    twin = copied(opened)
    assert (len(opened), len(twin)) == (40, 39)
    assert (
        twin.search(rows_of(1), k=39).keys.tolist() == index.search(rows_of(1), k=39).keys.tolist()
    )

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(pickle.loads(pickled)) == 39

    twin.remove([1])
    index.reload()
    assert len(index) == 38
    (tmp_path / "gallery.index").rename(tmp_path / "moved.index")
    with pytest.raises(ValueError, match=r"gallery\.index"):
        pickle.loads(pickled)

"""Approximate search beside the exact one: what it finds, what it loses, and its file."""

import numpy as np
import pytest
from gallery_of import records_of, similarities

from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import GalleryIndex, Not
from clipreid_kit.retrieval.engines.gallery_store import Reencoded, StoreFacts
from clipreid_kit.retrieval.store.approximate_file import check_factory

DIM = 16
FACTORIES = ["Flat", "HNSW16", "IVF16,Flat", "IVF16,PQ4x4", "IVF16,RaBitQ", "PCA8,SQ8"]


def rows_of(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "gallery.index"


@pytest.fixture
def index(store):
    return GalleryIndex.build(rows_of(400), records_of(400), store=store)


def same(first, second):
    assert first.keys.tolist() == second.keys.tolist()
    np.testing.assert_array_equal(first.similarities, second.similarities)
    assert first.records == second.records


@pytest.mark.parametrize("factory", FACTORIES)
def test_similarities_are_exact_and_most_images_are_found(index, factory):
    index.build_approximate(factory)
    queries = rows_of(20, seed=1)
    found = index.search(queries, 10, approximate=True)

    values = similarities(queries, rows_of(400))
    assert (found.similarities == np.take_along_axis(values, found.rows, 1).clip(-1, 1)).all()
    assert (np.diff(found.similarities) <= 0).all()
    assert index.recall(queries, 10).recall.mean > 0.5
    if factory == "Flat":
        same(found, index.search(queries, 10))


def test_more_effort_finds_more(index, store):
    queries = rows_of(50, seed=1)
    found = []
    for effort in (1, 4, 16):
        index.build_approximate("IVF16,Flat", effort=effort)
        found.append(GalleryIndex.open(store).recall(queries, 5).recall.mean)
    assert found[0] < found[1] < found[2] == 1.0
    index.remove([0])
    index.compact()
    assert index.recall(queries, 5).recall.mean == 1.0


def test_added_removed_compacted_and_reopened(index, store):
    index.build_approximate("Flat")
    index.add(rows_of(50, seed=2), records_of(50, start=400))
    index.remove(range(0, 450, 3))
    queries = rows_of(9, seed=2)
    same(index.search(queries, 12, approximate=True), index.search(queries, 12))
    assert index.info().approximate == "Flat"

    index.compact()
    reopened = GalleryIndex.open(store)
    same(reopened.search(queries, 12, approximate=True), index.search(queries, 12))
    # removed embeddings are gone from the structure too
    assert reopened._store._snapshot.approximate.num_rows == len(reopened) == 300
    assert len(list(store.glob("approximate-*"))) == 1

    reopened.build_approximate(None)
    assert reopened.info().approximate is None
    assert not list(store.glob("approximate-*"))


def test_a_reader_keeps_its_structure(index, store):
    index.build_approximate("HNSW16")
    reader = GalleryIndex.open(store)
    index.build_approximate(None)
    assert reader.search(rows_of(2), 3, approximate=True).keys[:, 0].tolist() == [0, 1]


@pytest.mark.parametrize(
    "options",
    [
        {"where": {"identity": 2}},
        {"where": {"camera": [1, 2], "split": Not("query")}},
        {"where": {"path": ["images/3.jpg", "images/7.jpg"]}},  # searched exactly
        {"where": {"identity": "nobody"}},
        {"query_cameras": [1, "gate", 2, 1, 1]},
        {"combine": "max"},
        {"combine": "mean"},
        {"group_by": "identity"},
    ],
)
def test_filters_and_forms(index, options):
    index.build_approximate("Flat")
    queries = rows_of(5, seed=3)
    same(index.search(queries, 4, approximate=True, **options), index.search(queries, 4, **options))


def test_k_beyond_what_the_structure_returns(index):
    index.build_approximate("IVF16,Flat")  # half of the cells have too few
    queries = rows_of(3, seed=4)
    same(index.search(queries, 400, approximate=True), index.search(queries, 400))


def test_ties_go_to_the_first(store):
    rows = np.repeat(rows_of(5), 4, axis=0)
    index = GalleryIndex.build(rows, store=store, approximate="Flat")
    assert index.search(rows[8], 6, approximate=True).rows[0, :4].tolist() == [8, 9, 10, 11]
    same(index.search(rows, 6, approximate=True), index.search(rows, 6))


def test_float64_and_zero_rows(store):
    rows = np.random.default_rng(0).standard_normal((60, DIM))
    rows[5] = 0
    index = GalleryIndex.build(rows, store=store, approximate="Flat")
    same(index.search(rows[:9], 60, approximate=True), index.search(rows[:9], 60))


def test_reembedding_drops_it(index):
    def reencode(records):
        rows = EmbeddingRows("a test", "embeddings", -rows_of(len(records)))
        facts = StoreFacts(DIM, "float32", "flipped", has_records=True)
        return Reencoded(np.arange(len(records)), rows, records, facts)

    index.build_approximate("Flat")
    index._store.reembed("a test", reencode)
    assert (index.info().approximate, index.info().fingerprint) == (None, "flipped")


def test_recall_by_hand(store):
    # two identities; the structure sees one cell of two, so half of the images may be missing
    records = [ImageRecord(f"{i}.jpg", "ab"[i % 2], camera=i // 20) for i in range(40)]
    index = GalleryIndex.build(rows_of(40), records, store=store, approximate="Flat")
    report = index.recall(rows_of(40), 5, query_ids=["a", "b"] * 20)
    assert report.recall == (1.0, 1.0, 1.0)
    assert report.rank_1.mean == report.approximate_rank_1.mean == 1.0
    assert report.lost_rank_1 == report.lost_mean_ap == (0.0, 0.0, 0.0)
    assert "recall@5" in report.table()

    alone = index.recall(
        rows_of(40), 5, query_ids=["a", "b"] * 20, query_cameras=[0] * 20 + [1] * 20
    )
    assert alone.rank_1.mean < 1.0
    assert index.recall(k=3).rank_1 is None


def test_what_is_lost_is_counted(index):
    index.build_approximate("PQ1x2")  # four codes for all images
    queries = rows_of(100, seed=5)
    report = index.recall(queries, 5, query_ids=[i % 4 for i in range(100)])
    exact = index.search(queries, 5)
    found = index.search(queries, 5, approximate=True)
    shared = [len(set(a) & set(b)) / 5 for a, b in zip(exact.keys, found.keys, strict=True)]
    assert report.recall.mean == pytest.approx(np.mean(shared))
    assert report.recall.low < report.recall.mean < report.recall.high
    assert 0.2 < report.recall.mean < 1

    first = [hits[0].record.identity == i % 4 for i, hits in enumerate(exact)]
    assert report.rank_1.mean == pytest.approx(np.mean(first))
    lost = report.rank_1.mean - report.approximate_rank_1.mean
    assert report.lost_rank_1.mean == pytest.approx(lost)


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("nonsense", "could not parse index string"),
        ("", "the factory is a text for faiss"),
        ("IVF4000,Flat", "Number of training points"),
        ("PQ7", "should be a multiple"),
        ("IDMap,Flat", "add does not make sense"),
        ("LSH", "it refuses these numbers"),
        ("HNSW0", "a number that is too small"),
        ("HNSW1", "a number that is too small"),
        ("IVF16_HNSW0,Flat", "a number that is too small"),
        ("IVF0,Flat", "a number that is too small"),
        ("IVF99999999999,Flat", "a number that is too small or too large"),
    ],
)
def test_factories_that_faiss_cannot_build(index, store, factory, reason):
    before = index.info()
    with pytest.raises(ValueError, match=reason) as caught:
        index.build_approximate(factory)
    assert "/" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert GalleryIndex.open(store).info() == before
    with pytest.raises(ValueError, match=reason):
        GalleryIndex.build(rows_of(40), store=store.with_name("other"), approximate=factory)
    assert sorted(path.name for path in store.parent.iterdir()) == ["gallery.index"]


def test_factories_without_a_number():
    check_factory("a test", "HNSW")
    check_factory("a test", "IVF1024_HNSW,PQ32x4fs")
    check_factory("a test", "OPQ16_64,IVF100,PQ16,RFlat")


def test_a_tampered_file_never_reaches_faiss(index, store):
    index.build_approximate("HNSW16")
    path = next(store.glob("approximate-*"))
    content = path.read_bytes()
    for position in (0, 300, len(content) // 2, len(content) - 1):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged or was edited"):
            GalleryIndex.open(store).search(rows_of(1), 3, approximate=True)

    path.write_bytes(content[:-9])
    with pytest.raises(ValueError, match="bytes instead of"):
        GalleryIndex.open(store)
    path.unlink()
    with pytest.raises(ValueError, match=r"lacks the file approximate-00000002\.safetensors"):
        GalleryIndex.open(store)


def test_verify_reads_it(index, store):
    index.build_approximate("HNSW16")
    path = next(store.glob("approximate-*"))
    content = bytearray(path.read_bytes())
    content[-9] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or was edited"):
        GalleryIndex.open(store).verify()


@pytest.mark.unhooked
def test_mistakes(index, store):
    with pytest.raises(ValueError, match="has no approximate structure"):
        index.search(rows_of(1), 3, approximate=True)
    with pytest.raises(ValueError, match="pass two queries at least"):
        index.recall(rows_of(1), 3)
    with pytest.raises(ValueError, match="there are 1 query_ids for 2 queries"):
        index.recall(rows_of(2), 3, query_ids=[1])
    with pytest.raises(ValueError, match="describe queries; pass queries"):
        index.recall(query_ids=[1])
    with pytest.raises(ValueError, match="expected effort as a whole number >= 1, got 0"):
        index.build_approximate("Flat", effort=0)
    index.remove(range(400))
    with pytest.raises(ValueError, match="the index holds 0 images"):
        index.build_approximate("Flat")

"""The same queries over every engine: the folder, faiss, Milvus Lite, and a real Milvus server.

The folder is compared with brute force elsewhere; here the others are compared with the folder.
"""

import importlib.util

import numpy as np
import pytest
from gallery_of import records_of
from milvus_servers import server_or_skip

from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import Between, Calibration, GalleryIndex, Not
from clipreid_kit.retrieval.engines.gallery_store import GalleryStore

COUNT, DIM = 300, 12
ENGINES = ["faiss", "lite", "server"]
SEARCHES = [
    {},
    {"where": {"camera": [1, 2]}},
    {"where": {"camera": Not([1, None])}},
    {"where": {"camera": None, "split": "query"}},
    {"where": {"frame": Between(20, 70)}},
    {"where": {"frame": Not(Between(50, None))}},
    {"where": {"frame": ["17", Between(90, None)]}},
    {"where": {"frame": Not("17")}},
    {"where": {"path": Between("images/2", "images/3"), "identity": [0, 2.0]}},
    {"where": {"path": Between(None, "images/15.jpg")}},
    {"where": {"identity": []}},
    {"where": {"identity": True}},
    {"where": {"identity": 'x" or key >= 0 or "'}},
    {"query_cameras": [1, "gate", 2, 1]},
    {"group_by": "identity"},
    {"group_by": "identity", "where": {"split": "gallery"}},
    {"combine": "max"},
    {"combine": "mean"},
]


def rows_of(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = server_or_skip(tmp_path_factory.mktemp("milvus"))
    yield running
    running.stop()


def place_of(engine, request, folder, name="gallery"):
    """Address of a new index."""
    if engine == "faiss":
        return folder / f"{name}.index"
    if importlib.util.find_spec("pymilvus") is None:
        pytest.skip("pymilvus is not installed: pip install clipreid_kit[milvus]")
    if engine == "lite":
        return f"milvus:{folder}/{name}.db"
    return f"{request.getfixturevalue('server').address}#{name}"


@pytest.fixture(scope="module", params=ENGINES)
def pair(request, tmp_path_factory):
    """The index of a folder, one of another engine with the same images, and how to search that."""
    folder = tmp_path_factory.mktemp("pair")
    exact = GalleryIndex.build(
        rows_of(COUNT), records_of(COUNT), store=folder / "exact.index", fingerprint="m"
    )
    store = place_of(request.param, request, folder)
    other = GalleryIndex.build(rows_of(COUNT), records_of(COUNT), store=store, fingerprint="m")
    options = {}
    if request.param == "faiss":
        other.build_approximate("Flat")
        options = {"approximate": True}
    return exact, other, options, store


def same(first, second):
    assert first.keys.tolist() == second.keys.tolist()
    np.testing.assert_array_equal(first.similarities, second.similarities)
    assert first.records == second.records


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_the_same_answers(pair, search):
    exact, other, options, _ = pair
    queries = rows_of(4, seed=1)
    same(exact.search(queries, 5, **search), other.search(queries, 5, **search, **options))


def test_the_same_keys_records_and_facts(pair):
    exact, other, _, store = pair
    for where in (None, {"camera": 1}, {"identity": "nobody"}):
        assert other.keys(where=where).tolist() == exact.keys(where=where).tolist()
    assert other.records([7, 3]) == exact.records([7, 3])
    assert len(other) == len(exact)

    mine, theirs = exact.info(), other.info()
    for name in ("num_images", "dim", "dtype", "fingerprint", "columns", "is_calibrated"):
        assert getattr(mine, name) == getattr(theirs, name)
    other.verify()
    assert isinstance(other._store, GalleryStore)
    assert other.name == str(store)


def test_bad_input_is_refused_alike(pair, tmp_path):
    _, other, options, store = pair
    with pytest.raises(ValueError, match=r"'camra', which is not a column .* mean 'camera'\?"):
        other.search(rows_of(1), 1, where={"camra": 1}, **options)
    with pytest.raises(ValueError, match="k is 301, but the index holds 300 images"):
        other.search(rows_of(1), 301, **options)
    with pytest.raises(ValueError, match="have 5 columns, and those of the index have 12"):
        other.search(rows_of(1)[:, :5], 1, **options)
    with pytest.raises(ValueError, match="come from the encoder 'other'"):
        other.search(rows_of(1), 1, fingerprint="other", **options)
    with pytest.raises(ValueError, match="embeddings are float64, but the index keeps float32"):
        other.add(rows_of(1).astype(np.float64), records_of(1))
    with pytest.raises(ValueError, match="remove: the index has no image with key 900"):
        other.remove([3, 900])
    with pytest.raises(ValueError, match=r"build: .* exists"):
        GalleryIndex.build(rows_of(1), store=store)
    with pytest.raises(ValueError, match="build: embeddings has no rows"):
        GalleryIndex.build(rows_of(0), store=f"milvus:{tmp_path}/empty.db")
    assert len(GalleryIndex.open(store)) == COUNT


@pytest.mark.parametrize("engine", ENGINES)
def test_changes(engine, request, tmp_path):
    rows = np.concatenate([rows_of(40), rows_of(20), rows_of(20)])  # copies: ties
    records = records_of(80)
    exact = GalleryIndex.build(rows, records, store=tmp_path / "exact.index")
    store = place_of(engine, request, tmp_path, "changes")
    other = GalleryIndex.build(rows, records, store=store)
    options = {}
    if engine == "faiss":
        other.build_approximate("Flat")
        options = {"approximate": True}
    reader = GalleryIndex.open(store)

    further = [ImageRecord('ü "x".jpg', "\udc80", camera=9, extra={"place": "gate"})]
    for index in (exact, other):
        index.remove([0, 41, 79])
        assert index.add(rows[:1], further).tolist() == [80]
        index.remove([80])
        assert index.add(rows[:1], further).tolist() == [81]
        index.compact()

    reader.reload()
    for index in (other, reader, GalleryIndex.open(store)):
        assert index.info().columns[-1] == "place"
        assert index.keys().tolist() == exact.keys().tolist()
        for where in (None, {"place": "gate"}, {"place": Not("gate")}, {"place": None}):
            found = index.search(rows[:3], 6, where=where, **options)
            same(exact.search(rows[:3], 6, where=where), found)

    calibration = Calibration(
        "isotonic",
        0.1,
        tuple(np.linspace(-1, 1, 4000).tolist()),  # larger than a text of Milvus
        tuple(np.linspace(0, 1, 4000).tolist()),
        *(0.0, 0.0, 0.6, 0.5, 0.7, 0.01, 0.9, 0.02, (), 9, 99, 5),
    )
    other.set_calibration(calibration)
    assert GalleryIndex.open(store).calibration == calibration
    assert other.search(rows[:1], 1, **options).probabilities[0, 0] == pytest.approx(1.0)

    other.remove(other.keys().tolist())
    assert len(other) == 0
    with pytest.raises(ValueError, match="k is 1, but the index holds 0 images"):
        other.search(rows[:1], 1, **options)
    assert other.add(rows[:1], further).tolist() == [82]


def test_many_copies_follow_the_tie_rule(request, tmp_path):
    """More equal images than are fetched beyond k."""
    rows = np.concatenate([np.repeat(rows_of(1), 150, axis=0), rows_of(50, seed=1)])
    store = place_of("lite", request, tmp_path)
    index = GalleryIndex.build(rows, store=store)
    assert index.search(rows[0], 5).keys.tolist() == [[0, 1, 2, 3, 4]]


def test_a_server_that_is_killed_keeps_what_it_has_acknowledged(server):
    store = f"{server.address}#killed"
    index = GalleryIndex.build(rows_of(50), records_of(50), store=store)
    index.add(rows_of(30), records_of(30))
    index.remove([3])
    before = index.search(rows_of(4, seed=2), 10)

    server.kill()
    with pytest.raises(
        ValueError, match=r"#killed does not answer: .* What was acknowledged is kept"
    ):
        index.search(rows_of(1), 1)

    server.start()
    again = GalleryIndex.open(f"{server.address}#killed")
    assert len(again) == 79
    same(again.search(rows_of(4, seed=2), 10), before)

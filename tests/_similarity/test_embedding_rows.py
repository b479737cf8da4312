import mmap

import numpy as np
import pytest
import torch

from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit.metrics import evaluate_reid
from clipreid_kit.metrics._engine import (
    count_nonmatches,
    find_matches,
    match_pairs,
    query_block,
)


@pytest.fixture
def on_disk(tmp_path):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 40, 700)
    rows = (rng.standard_normal((40, 16))[ids] + rng.standard_normal((700, 16))).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)

    return tmp_path / "rows.npy", rows, ids


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_file_equals_array(monkeypatch, on_disk, distance, mode):
    path, rows, ids = on_disk
    want = evaluate_reid(rows[:50], rows, query_ids=ids[:50], gallery_ids=ids, distance=distance)
    monkeypatch.setattr(count_nonmatches, "_TILE", 130)
    mapped = np.load(path, mmap_mode=mode)

    for gallery in (mapped, mapped[:], np.asarray(mapped)):
        got = evaluate_reid(
            rows[:50], gallery, query_ids=ids[:50], gallery_ids=ids, distance=distance
        )
        np.testing.assert_array_equal(got.average_precision, want.average_precision)
        np.testing.assert_array_equal(got.first_rank, want.first_rank)

    part = evaluate_reid(
        rows[:50], mapped[100:600:2], query_ids=ids[:50], gallery_ids=ids[100:600:2]
    )
    again = evaluate_reid(
        rows[:50], rows[100:600:2], query_ids=ids[:50], gallery_ids=ids[100:600:2]
    )

    assert part.mean_ap == again.mean_ap


def test_changes_of_a_private_map_are_seen(on_disk):
    path, rows, ids = on_disk
    mapped = np.load(path, mmap_mode="c")
    mapped[:] = mapped[::-1].copy()
    got = evaluate_reid(rows[:50], mapped, query_ids=ids[:50], gallery_ids=ids[::-1])

    assert (
        got.mean_ap == evaluate_reid(rows[:50], rows, query_ids=ids[:50], gallery_ids=ids).mean_ap
    )
    np.testing.assert_array_equal(mapped, rows[::-1])


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_file_is_read_by_blocks(monkeypatch, on_disk, num_threads):
    path, rows, ids = on_disk
    monkeypatch.setattr(count_nonmatches, "_TILE", 130)
    monkeypatch.setattr(count_nonmatches, "default_threads", lambda: num_threads)
    widest, tiles = 0, []
    original = EmbeddingRows._read

    def watched(self, wanted):
        nonlocal widest
        part = original(self, wanted)

        if self.streamed:
            widest = max(widest, len(part))
            tiles.append(wanted)

        return part

    monkeypatch.setattr(EmbeddingRows, "_read", watched)
    evaluate_reid(rows[:5], np.load(path, mmap_mode="r"), query_ids=ids[:5], gallery_ids=ids)

    assert widest < 200

    blocks = [(tile.start, tile.stop) for tile in tiles if isinstance(tile, slice)]
    # each row once
    assert sorted(blocks) == [(start, min(start + 8, 700)) for start in range(0, 700, 8)]


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("width", [32, 699, 700])
def test_tiles_of_a_file_come_in_order_with_their_norms(monkeypatch, on_disk, num_threads, width):
    path, rows, _ = on_disk
    monkeypatch.setattr(count_nonmatches, "default_threads", lambda: num_threads)
    gallery = EmbeddingRows("test", "rows", np.load(path, mmap_mode="r"))

    tiles = list(count_nonmatches._read_tiles(gallery, width))
    assert [left for left, _, _ in tiles] == list(range(0, 700, width))
    np.testing.assert_array_equal(np.concatenate([part for _, part, _ in tiles]), rows)
    norms = np.concatenate([part for _, _, part in tiles])
    np.testing.assert_allclose(norms, np.linalg.norm(rows.astype(np.float64), axis=1), rtol=1e-14)


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="a system that cannot release pages")
def test_pages_of_a_file_are_released(tmp_path):
    big = np.lib.format.open_memmap(
        tmp_path / "big.npy", mode="w+", dtype=np.float32, shape=(200_000, 64)
    )
    big[:] = 1
    del big

    def mapped_kilobytes():
        text = (tmp_path.parent.__class__("/proc/self/status")).read_text()
        return int(text.split("RssFile:")[1].split()[0])

    rows = EmbeddingRows("test", "rows", np.load(tmp_path / "big.npy", mmap_mode="r"))
    before = mapped_kilobytes()

    for start in range(0, 200_000, 10_000):
        rows.block(start, start + 10_000)

    assert mapped_kilobytes() - before < 20_000  # of 51,200


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", ">f8"])
def test_numpy_precisions_from_file(tmp_path, dtype):
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((60, 8)).astype(dtype)
    ids = rng.integers(0, 9, 60)
    np.save(tmp_path / "rows.npy", rows)
    want = evaluate_reid(rows.astype(np.float64), query_ids=ids)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")

    for gallery in (rows, mapped):
        assert evaluate_reid(gallery, query_ids=ids).mean_ap == want.mean_ap


def test_bfloat16_and_strided_tensors():
    rows = torch.randn(60, 16).bfloat16()
    ids = torch.arange(60) % 9
    want = evaluate_reid(rows.double(), query_ids=ids)

    assert evaluate_reid(rows, query_ids=ids).mean_ap == want.mean_ap
    assert evaluate_reid(rows.T.contiguous().T, query_ids=ids).mean_ap == want.mean_ap
    assert (
        evaluate_reid(
            rows.float().requires_grad_(), rows.half(), query_ids=ids, gallery_ids=ids
        ).mean_ap
        > 0
    )


@pytest.mark.parametrize("num_threads", [1, 2])
def test_broken_rows_of_a_file_are_named(tmp_path, monkeypatch, num_threads):
    rows = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    rows[7], rows[250, 3] = np.nan, np.inf
    np.save(tmp_path / "rows.npy", rows)
    monkeypatch.setattr(count_nonmatches, "_TILE", 130)
    monkeypatch.setattr(count_nonmatches, "default_threads", lambda: num_threads)

    with pytest.raises(
        ValueError,
        match=r"finite gallery_embeddings, got NaN or .* in 2 of 300 rows \(first: \[7, 250\]",
    ):
        evaluate_reid(
            rows[:5],
            np.load(tmp_path / "rows.npy", mmap_mode="r"),
            query_ids=[0] * 5,
            gallery_ids=[0] * 300,
        )


def test_packed_items_fit_into_their_bits():
    from clipreid_kit.metrics._engine.contending_items import COLUMN_BITS

    assert count_nonmatches._TILE <= 1 << COLUMN_BITS
    assert query_block._SLICE < 1 << 31


def test_broken_queries_of_a_later_part_are_named_by_the_callers_number(monkeypatch, tmp_path):
    rows = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    rows[33] = np.nan
    np.save(tmp_path / "rows.npy", rows)
    monkeypatch.setattr(find_matches, "_STREAMED_QUERIES", 10)
    monkeypatch.setattr(match_pairs, "MAX_PAIRS", 50)

    for queries in (rows, np.load(tmp_path / "rows.npy", mmap_mode="r")):
        with pytest.raises(ValueError, match=r"1 of 40 rows \(first: \[33\]\)"):
            evaluate_reid(
                queries, np.ones((9, 4), np.float32), query_ids=[0] * 40, gallery_ids=[0] * 9
            )


def test_some_rows_keep_their_norms():
    rows = EmbeddingRows("test", "rows", np.array([[3, 4], [0, 0], [0, 2]], dtype=np.float16))
    some = rows.select(np.array([0, 2]))
    assert some.block(0, 2).tolist() == [[3, 4], [0, 2]]
    assert some.norms(0, 2).tolist() == [5, 2]


def test_a_private_map_is_left_alone():
    memory = mmap.mmap(-1, 4 * 4 * 30, flags=mmap.MAP_PRIVATE)
    rows = np.frombuffer(memory, dtype=np.float32).reshape(30, 4)
    rows[:] = np.arange(1, 121).reshape(30, 4)
    kept = EmbeddingRows("test", "rows", rows)

    assert not kept.streamed

    kept.block(0, 30)
    assert rows[29, 3] == 120


def test_queries_from_a_file_in_parts(on_disk, monkeypatch):
    path, rows, ids = on_disk
    want = evaluate_reid(rows, query_ids=ids)
    monkeypatch.setattr(find_matches, "_STREAMED_QUERIES", 97)
    got = evaluate_reid(np.load(path, mmap_mode="r"), query_ids=ids)

    np.testing.assert_array_equal(got.average_precision, want.average_precision)

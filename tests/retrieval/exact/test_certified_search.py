"""Nearest rows against brute force over exact similarities: any data, pass, block and thread."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from row_sources import KINDS, ArraySource, brute_force, data

from clipreid_kit.retrieval.exact import (
    block_passes,
    certified_search,
    code_lists,
    product_lists,
)
from clipreid_kit.retrieval.exact.certified_search import nearest_rows
from clipreid_kit.retrieval.exact.device_rows import DeviceRows


@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**31),
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=3),
    dim=st.integers(1, 40),
    num_queries=st.integers(1, 4),
    count=st.integers(1, 40),
    keep=st.sampled_from([None, 0.05, 0.5, 0.97]),
    way=st.sampled_from(["one by one", "codes", "float32", "on a device"]),
    block=st.sampled_from([1, 7, 1 << 20]),
    threads=st.sampled_from([1, 3]),
)
def test_equals_brute_force(kind, seed, sizes, dim, num_queries, count, keep, way, block, threads):
    rng = np.random.default_rng(seed)
    rows = torch.from_numpy(data(kind, rng, sum(sizes), dim))
    queries = torch.from_numpy(data(kind, rng, num_queries, dim))
    queries[0] = rows[rng.integers(len(rows))]
    allowed = None if keep is None else rng.random(len(rows)) < keep
    sources = [ArraySource(part) for part in rows.split(sizes)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certified_search, "_BLOCK", block * dim)
        patch.setattr(product_lists, "_WIDEST", block)
        patch.setattr(product_lists, "_LONG", 0)
        patch.setattr(product_lists, "default_threads", lambda: threads)
        patch.setattr(certified_search, "_SPARE", 2)
        patch.setattr(block_passes, "_SPARE", 2)
        patch.setattr(block_passes, "_MANY", 5)
        patch.setattr(certified_search, "_SMALL", 0)
        patch.setattr(certified_search, "_SMALL_FOR_MANY", 0)
        patch.setattr(certified_search, "_SPARE_CODES", 2)
        patch.setattr(certified_search, "_PER_WANTED", 1)
        patch.setattr(code_lists, "_WIDEST", block)
        patch.setattr(code_lists, "_CHUNK", 5 * dim)
        patch.setattr(certified_search, "_FEW", 99 if way == "one by one" else 0)
        if way != "codes":
            patch.setattr(certified_search, "largest_number", lambda dim: 0)
        patch.setattr(product_lists, "BLOCK_ROWS", block)
        on_device = DeviceRows(torch.device("cpu")) if way == "on a device" else None
        found, similarities = nearest_rows(queries, sources, count, allowed, on_device)

    expected, exact = brute_force(queries, rows, count, allowed)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(similarities, exact)


@pytest.mark.parametrize("kind", KINDS)
def test_the_passes_return_the_same_bits(kind, monkeypatch):
    rng = np.random.default_rng(3)
    rows = torch.from_numpy(data(kind, rng, 6000, 48))
    queries = torch.from_numpy(data(kind, rng, 5, 48))
    sources = [ArraySource(rows[:2500]), ArraySource(rows[2500:])]
    together = nearest_rows(queries, sources, 12)

    monkeypatch.setattr(certified_search, "_SMALL", 0)
    monkeypatch.setattr(certified_search, "_SMALL_FOR_MANY", 0)
    monkeypatch.setattr(certified_search, "_BLOCK", 48 * 512)
    monkeypatch.setattr(code_lists, "_WIDEST", 512)
    for threads, few in itertools.product((1, 2), (0, 99)):
        monkeypatch.setattr(certified_search, "default_threads", lambda threads=threads: threads)
        monkeypatch.setattr(code_lists, "default_threads", lambda threads=threads: threads)
        monkeypatch.setattr(certified_search, "_FEW", few)
        found = nearest_rows(queries, sources, 12)
        np.testing.assert_array_equal(found[0], together[0])
        np.testing.assert_array_equal(found[1], together[1])

    order = torch.tensor([3, 1, 4, 0, 2])
    permuted = nearest_rows(queries[order], sources, 12)
    np.testing.assert_array_equal(permuted[0], together[0][order.numpy()])


def test_without_the_scanner_of_faiss(monkeypatch):
    rng = np.random.default_rng(4)
    rows = torch.from_numpy(data("clusters", rng, 3000, 24))
    sources = [ArraySource(rows)]
    expected = nearest_rows(rows[:2], sources, 9)

    monkeypatch.setattr(certified_search, "scan_is_exact", lambda dim: False)
    found = certified_search._search_one_by_one(rows[:2], certified_search.GalleryRows(sources), 9)
    np.testing.assert_array_equal(found[0], expected[0])


def test_one_query_does_not_try_the_product_of_many(monkeypatch):
    rows = torch.from_numpy(data("clusters", np.random.default_rng(6), 3000, 24))
    tried = []
    monkeypatch.setattr(certified_search, "_SMALL", 0)
    monkeypatch.setattr(certified_search, "_SMALL_FOR_MANY", 0)
    monkeypatch.setattr(certified_search, "largest_number", lambda dim: tried.append(dim) or 0)

    nearest_rows(rows[:1], [ArraySource(rows)], 9)
    assert not tried
    nearest_rows(rows[:9], [ArraySource(rows)], 9)
    assert tried == [24]


def test_float64_rows_that_float32_cannot_tell_apart():
    rng = np.random.default_rng(5)
    rows = torch.from_numpy(1 + 1e-6 * rng.standard_normal((400, 16)))
    found, _ = nearest_rows(rows[:3], [ArraySource(rows)], 5)
    np.testing.assert_array_equal(found, brute_force(rows[:3], rows, 5)[0])
    assert (found[:, 0] == [0, 1, 2]).all()


def test_a_zero_query_finds_the_first_rows():
    source = ArraySource(torch.eye(5))
    allowed = np.array([False, True, True, False, True])
    rows, similarities = nearest_rows(torch.zeros(1, 5), [source], 2, allowed)
    assert rows.tolist() == [[1, 2]]
    assert similarities.tolist() == [[0, 0]]


def test_nothing_is_allowed():
    rows, similarities = nearest_rows(
        torch.eye(2), [ArraySource(torch.eye(2))], 1, np.zeros(2, dtype=bool)
    )
    assert rows.shape == similarities.shape == (2, 0)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), dim=st.sampled_from([3, 16, 64]))
def test_blocks_that_cannot_matter_are_not_multiplied(seed, dim):
    rng = np.random.default_rng(seed)
    far = np.zeros((4000, dim), dtype=np.float32)
    far[:, 0] = -1
    far += 0.01 * rng.standard_normal(far.shape).astype(np.float32)
    near = np.zeros((500, dim), dtype=np.float32)
    near[:, 0] = 1
    near += 0.3 * rng.standard_normal(near.shape).astype(np.float32)
    multiplied = []

    def watch(block, *rest):
        multiplied.append(block.first)
        return original(block, *rest)

    original = block_passes.product_candidates
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certified_search, "product_candidates", watch)
        patch.setattr(certified_search, "_BLOCK", 500 * dim)
        patch.setattr(certified_search, "_SMALL", 0)
        patch.setattr(certified_search, "_SMALL_FOR_MANY", 0)
        query = torch.eye(dim)[:1]
        nearest_rows(query, [ArraySource(far), ArraySource(near)], 3)

    assert set(multiplied) <= {4000}

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from row_sources import space_of

from clipreid_kit._similarity import nearest_by_codes, nearest_in_triangle
from clipreid_kit.metrics._engine import nearest_neighbours
from clipreid_kit.metrics._engine.nearest_neighbours import nearest_between, nearest_others


def distances(rows):
    return ((rows[:, None].astype(np.float64) - rows[None]) ** 2).sum(-1)


def brute_force(rows, count):
    matrix = distances(rows)
    lists = [
        sorted((j for j in range(len(rows)) if j != i), key=lambda j: (matrix[i, j], j))
        for i in range(len(rows))
    ]

    return [members[:count] for members in lists], matrix


def same_sets(index, want, prefixes):
    for mine, theirs in zip(index.tolist(), want, strict=True):
        for prefix in prefixes:
            assert set(mine[:prefix]) == set(theirs[:prefix])


@given(st.integers(0, 2**31), st.integers(2, 60), st.integers(1, 4), st.sampled_from([1, 3, 1000]))
def test_sets_are_those_of_a_sort_with_ties_by_index(seed, total, dim, levels):
    rng = np.random.default_rng(seed)
    # few levels: many exact ties
    rows = rng.integers(-levels, levels + 1, (total, dim)).astype(np.float32)
    count = int(rng.integers(1, total))
    prefixes = (count // 2, count)
    want, matrix = brute_force(rows, count)
    space = space_of([torch.from_numpy(rows)], "euclidean")
    index, least = nearest_others(space, count, prefixes)

    same_sets(index, want, prefixes)

    farthest = (-least).numpy()
    if matrix.max() > 0:  # nearness is minus half the square, in a scale of its own
        np.testing.assert_allclose(
            farthest / farthest.max(), matrix.max(axis=1) / matrix.max(), atol=1e-6
        )


@pytest.mark.parametrize(("rows_in_tile", "columns_in_tile"), [(2, 5), (3, 7), (10, 10), (64, 200)])
def test_any_tile_finds_the_same(monkeypatch, rows_in_tile, columns_in_tile):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((150, 6)).astype(np.float32)
    rows[100:] = rows[:50]
    want, _ = brute_force(rows, 9)
    monkeypatch.setattr(nearest_in_triangle, "ROWS", rows_in_tile)
    monkeypatch.setattr(nearest_in_triangle, "COLUMNS", columns_in_tile)
    space = space_of([torch.from_numpy(rows)], "euclidean")
    kept = torch.full((20, 130), torch.nan)
    index, _ = nearest_others(space, 9, (4,), keep=(20, kept))

    same_sets(index, want, (4, 9))
    torch.testing.assert_close(
        kept, space.nearness(slice(0, 20), slice(20, 150)), atol=1e-6, rtol=0
    )


def test_neighbours_closer_than_float32_can_resolve():
    rng = np.random.default_rng(1)
    base = rng.standard_normal(256)
    rows = np.tile(base, (40, 1)) + 1e-9 * rng.standard_normal((40, 256))  # float64
    want, _ = brute_force(rows, 5)
    index, _ = nearest_others(space_of([torch.from_numpy(rows)], "euclidean"), 5, (2,))

    same_sets(index, want, (2, 5))

    found = nearest_between(
        space_of([torch.from_numpy(rows)], "euclidean"), slice(0, 3), slice(3, 40), 5
    )
    matrix = distances(rows)

    for i in range(3):
        assert set(found[i].tolist()) == set(
            sorted(range(3, 40), key=lambda j: (matrix[i, j], j))[:5]
        )


def test_a_rough_product_changes_no_neighbour():
    rng = np.random.default_rng(2)
    rows = torch.from_numpy(rng.standard_normal((300, 32)).astype(np.float32))
    want, _ = nearest_others(space_of([rows], "cosine"), 10, (5,))
    precision = torch.get_float32_matmul_precision()

    try:
        torch.set_float32_matmul_precision("medium")
        got, _ = nearest_others(space_of([rows], "cosine"), 10, (5,))
    finally:
        torch.set_float32_matmul_precision(precision)

    same_sets(got, want.tolist(), (5, 10))


def test_many_copies_are_ordered_by_their_index():
    rows = torch.zeros(500, 3)
    rows[:, 0] = 1
    rows[250:, 0] = 2
    index, _ = nearest_others(space_of([rows], "euclidean"), 4, (2,))

    assert set(index[0].tolist()) == {1, 2, 3, 4}
    assert set(index[3].tolist()) == {0, 1, 2, 4}
    assert set(index[499].tolist()) == {250, 251, 252, 253}

    found = nearest_between(space_of([rows], "cosine"), slice(0, 2), slice(100, 500), 3)
    assert found.tolist() == [[100, 101, 102]] * 2


@pytest.fixture
def by_codes(monkeypatch):
    """Use codes for few rows, and count how often they are used."""
    if not nearest_by_codes.codes_are_exact(24):
        pytest.skip("this processor, or this torch, has no fast 8-bit product")

    uses = []
    search = nearest_neighbours.nearest_by_codes

    def count(*args):
        uses.append(args)
        return search(*args)

    monkeypatch.setattr(nearest_neighbours, "nearest_by_codes", count)
    monkeypatch.setattr(nearest_neighbours, "CODES_PAY_FROM", 0)
    monkeypatch.setattr(nearest_by_codes, "BLOCK", 256)
    monkeypatch.setattr(nearest_by_codes, "_CROWDED", 2)
    return uses


def real_rows(kind):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(1500, 24, generator=generator)
    if kind == "clustered":
        rows = rows[:100].repeat_interleave(15, dim=0) + 0.3 * rows
    if kind == "copies":
        rows = rows[:300].repeat(5, 1)
    if kind == "closer than float32 resolves":
        rows = rows[:300].repeat(5, 1).double() + 1e-9 * rows.double()
    if kind == "a crowd":
        rows[:1200] = rows[0] + 1e-3 * rows[:1200]
    if kind == "zero rows":
        rows[::50] = 0
    return rows


@pytest.mark.parametrize(
    "kind",
    ["random", "clustered", "copies", "closer than float32 resolves", "a crowd", "zero rows"],
)
def test_codes_change_no_neighbour(by_codes, monkeypatch, kind):
    space = space_of([real_rows(kind)[:400], real_rows(kind)[400:]], "cosine")
    found, least = nearest_others(space, 20, (10, 5))
    assert len(by_codes) == 1

    monkeypatch.setattr(nearest_neighbours, "CODES_PAY_FROM", 10**9)
    want, want_least = nearest_others(space, 20, (10, 5))
    assert len(by_codes) == 1
    same_sets(found, want.tolist(), (5, 10, 20))
    torch.testing.assert_close(least, want_least, atol=1e-6, rtol=0)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta device": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": deterministic,
}


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
def test_settings_of_the_program_change_no_neighbour(by_codes, monkeypatch, setting, num_threads):
    monkeypatch.setattr(nearest_neighbours, "default_threads", lambda: num_threads)
    monkeypatch.setattr(nearest_by_codes, "_CROWDED", 1)
    rows = real_rows("clustered")[:600]
    want = nearest_others(space_of([rows], "cosine"), 9, (5,))

    with setting():
        found = nearest_others(space_of([rows], "cosine"), 9, (5,))

    assert len(by_codes) == 2
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, want, strict=True))


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_centred_rows_have_no_codes(by_codes, distance):
    rows = 1 + 1e-3 * real_rows("random")
    nearest_others(space_of([rows], distance), 20)
    assert not by_codes


def test_long_lists_have_no_codes(by_codes):
    nearest_others(space_of([real_rows("random")], "cosine"), 129)
    assert not by_codes


@pytest.mark.parametrize("step", [1, 4, 1000])
def test_between_two_sets(monkeypatch, step):
    rng = np.random.default_rng(3)
    first, second = (rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (12, 50))
    matrix = ((first[:, None] - second[None]) ** 2).sum(-1)
    want = np.argsort(matrix, axis=1, kind="stable")[:, :7] + 12
    monkeypatch.setattr(nearest_neighbours, "ROWS", step)
    monkeypatch.setattr(nearest_neighbours, "COLUMNS", 50)
    space = space_of([torch.from_numpy(first), torch.from_numpy(second)], "euclidean")

    same_sets(nearest_between(space, slice(0, 12), slice(12, 62), 7), want.tolist(), (7,))

    everything = nearest_between(space, slice(0, 12), slice(12, 62), 50)
    assert sorted(everything[0].tolist()) == list(range(12, 62))

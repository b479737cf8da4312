import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data.mining import _nearest_neighbours, _row_groups
from clipreid_kit.data.mining._nearest_neighbours import nearest_allowed, nearest_of_rows
from clipreid_kit.data.mining._row_groups import RowGroups, number_groups
from clipreid_kit.distances import l2_normalize


def unit_rows(num_rows, dim=6, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return l2_normalize(torch.randn(num_rows, dim, generator=rng))


def groups_of(num_rows, labels=None):
    return RowGroups(number_groups("test", num_rows, labels, None), torch.device("cpu"))


def sorted_similarities(unit, labels, count, ceiling):
    """The similarities of the allowed neighbours of each row, from the whole matrix."""
    similarity = (unit.double() @ unit.double().T).numpy()
    ceilings = torch.as_tensor(ceiling).expand(len(unit)).tolist()

    found = []
    for i, row in enumerate(similarity):
        allowed = []
        for j, value in enumerate(row):
            if labels[i] != labels[j] and value < ceilings[i]:
                allowed.append(value)

        padded = sorted(allowed, reverse=True) + [-np.inf] * count
        found.append(padded[:count])

    return torch.tensor(found, dtype=torch.float64)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(_nearest_neighbours, "_ROWS", 7)
    monkeypatch.setattr(_nearest_neighbours, "_COLUMNS", 16)
    monkeypatch.setattr(_nearest_neighbours, "_PROBES", 1000)  # all lists: nothing is missed


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("search", ["exact", "faiss"])
@pytest.mark.parametrize("per_row", [False, True])
def test_tiles_and_lists_agree_with_all_pairs(search, per_row):
    unit = unit_rows(90)
    labels = torch.arange(90) % 11
    ceiling = torch.linspace(-0.5, 1, 90) if per_row else 0.6

    found = nearest_allowed(unit, groups_of(90, labels), 4, ceiling, search)
    expected = sorted_similarities(unit, labels.tolist(), 4, ceiling)
    assert torch.allclose(found.similarity.double(), expected, atol=1e-6)
    assert torch.equal(found.rows == -1, found.similarity == -np.inf)

    row, place = torch.nonzero(found.rows >= 0, as_tuple=True)
    neighbour = found.rows[row, place]
    assert (labels[row] != labels[neighbour]).all()
    products = (unit[row] * unit[neighbour]).sum(dim=1)
    assert torch.allclose(products, found.similarity[row, place], atol=1e-6)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("per_row", [False, True])
def test_some_rows_have_the_neighbours_that_they_have_among_all(per_row):
    unit = unit_rows(90)
    groups = groups_of(90, torch.arange(90) % 11)
    ceiling = torch.linspace(-0.5, 1, 90) if per_row else 0.6

    of_all = nearest_allowed(unit, groups, 4, ceiling, "exact")
    of_two = nearest_of_rows(torch.tensor([3, 80]), unit, groups, 4, ceiling)

    assert torch.allclose(of_two.similarity, of_all.similarity[[3, 80]])
    assert torch.equal(of_two.rows, of_all.rows[[3, 80]])


@given(
    num_rows=st.integers(1, 12),
    count=st.integers(1, 15),
    num_identities=st.integers(1, 4),
    whole_tiles=st.booleans(),
)
def test_few_rows_have_as_many_neighbours_as_there_are(
    num_rows, count, num_identities, whole_tiles
):
    unit = unit_rows(num_rows, seed=num_rows)
    labels = torch.arange(num_rows) % num_identities

    with pytest.MonkeyPatch.context() as patch:
        if whole_tiles:
            patch.setattr(_row_groups, "_MANY_PAIRS", 0)
        groups = groups_of(num_rows, labels)
        found = nearest_allowed(unit, groups, count, float("inf"), "faiss")

    assert found.rows.shape == found.similarity.shape == (num_rows, count)
    expected = sorted_similarities(unit, labels.tolist(), count, float("inf"))
    assert torch.allclose(found.similarity.double(), expected, atol=1e-6)


@pytest.mark.parametrize(("num_rows", "expected"), [(80, "exact"), (81, "faiss")])
def test_auto_uses_faiss_for_very_many_rows(monkeypatch, num_rows, expected):
    used = []
    by_tiles = _nearest_neighbours._by_tiles

    def record(name):
        return lambda *arguments: used.append(name) or by_tiles(*arguments)

    monkeypatch.setattr(_nearest_neighbours, "_by_inverted_lists", record("faiss"))
    monkeypatch.setattr(_nearest_neighbours, "_by_tiles", record("exact"))
    monkeypatch.setattr(_nearest_neighbours, "_MANY_ROWS", 80)

    nearest_allowed(unit_rows(num_rows), groups_of(num_rows), 1, 1.0)

    assert used == [expected]

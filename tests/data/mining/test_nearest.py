import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data.mining import groups as groups_module
from clipreid_kit.data.mining import nearest as nearest_module
from clipreid_kit.data.mining.groups import Groups, group_numbers
from clipreid_kit.data.mining.nearest import nearest_allowed, nearest_of
from clipreid_kit.distances import l2_normalize

_CPU = torch.device("cpu")


def _unit(rows, dim=6, seed=0):
    return l2_normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)))


def _expected(unit, labels, count, ceiling):
    near = (unit.double() @ unit.double().T).numpy()
    found = []
    for i, row in enumerate(near):
        limit = float(ceiling[i]) if isinstance(ceiling, torch.Tensor) else ceiling
        allowed = [value for j, value in enumerate(row) if labels[i] != labels[j] and value < limit]
        found.append((sorted(allowed, reverse=True) + [-np.inf] * count)[:count])
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("search", ["exact", "faiss"])
@pytest.mark.parametrize("per_row", [False, True])
def test_tiles_and_lists_agree_with_all_pairs(monkeypatch, search, per_row):
    monkeypatch.setattr(nearest_module, "_ROWS", 7)
    monkeypatch.setattr(nearest_module, "_COLUMNS", 16)
    monkeypatch.setattr(nearest_module, "_PROBES", 1000)  # all lists: nothing is missed
    unit = _unit(90)
    labels = torch.arange(90) % 11
    ceiling = torch.linspace(-0.5, 1, 90) if per_row else 0.6
    groups = Groups(group_numbers("test", 90, labels, None), _CPU)
    found = nearest_allowed(unit, groups, 4, ceiling, search)
    expected = _expected(unit, labels.tolist(), 4, ceiling)
    assert torch.allclose(found.similarity.double(), expected, atol=1e-6)
    for i, row in enumerate(found.rows.tolist()):
        for j, value in zip(row, found.similarity[i].tolist(), strict=True):
            assert (j == -1) == (value == -np.inf)
            if j >= 0:
                assert labels[i] != labels[j]
                assert float(unit[i] @ unit[j]) == pytest.approx(value, abs=1e-6)
    of_some = nearest_of(torch.tensor([3, 80]), unit, groups, 4, ceiling)
    assert torch.allclose(of_some.similarity, found.similarity[[3, 80]])


@given(
    rows=st.integers(1, 12),
    count=st.integers(1, 15),
    kinds=st.integers(1, 4),
    many=st.booleans(),
)
def test_few_rows_give_what_there_is(rows, count, kinds, many):
    with pytest.MonkeyPatch.context() as patch:
        if many:
            patch.setattr(groups_module, "_MANY", 0)  # whole tiles are compared
        unit = _unit(rows, seed=rows)
        labels = torch.arange(rows) % kinds
        groups = Groups(group_numbers("test", rows, labels, None), _CPU)
        found = nearest_allowed(unit, groups, count, float("inf"), "faiss")
        assert found.rows.shape == found.similarity.shape == (rows, count)
        expected = _expected(unit, labels.tolist(), count, float("inf"))
        assert torch.allclose(found.similarity.double(), expected, atol=1e-6)


def test_auto_takes_faiss_for_very_many_rows(monkeypatch):
    taken = []
    by_tiles = nearest_module._by_tiles
    monkeypatch.setattr(
        nearest_module, "_by_lists", lambda *given: taken.append("faiss") or by_tiles(*given)
    )
    monkeypatch.setattr(
        nearest_module, "_by_tiles", lambda *given: taken.append("exact") or by_tiles(*given)
    )
    monkeypatch.setattr(nearest_module, "_MANY_ROWS", 80)
    for rows in (80, 81):
        groups = Groups(group_numbers("test", rows, None, None), _CPU)
        nearest_allowed(_unit(rows), groups, 1, 1.0)
    assert taken == ["exact", "faiss"]


def test_pairs_are_those_of_one_group():
    labels = torch.tensor([5, 7, 5, 9])
    groups = Groups(group_numbers("test", 4, labels, ["A  b", "x", None, " a B"]), _CPU)
    rows = torch.tensor([0, 2])
    place, member = groups.pairs(rows)
    assert {(int(rows[p]), int(m)) for p, m in zip(place, member, strict=True)} == {
        (0, 0),
        (0, 2),
        (0, 3),
        (2, 2),
        (2, 0),
    }
    assert groups.together(torch.tensor([0, 0, 1]), torch.tensor([3, 1, 1])).tolist() == [
        True,
        False,
        True,
    ]
    assert groups.largest == 1 + 2 + 2


def test_rows_without_a_caption_share_it_with_none():
    kinds = group_numbers("test", 4, None, [None, None, "a", "A"])
    assert kinds[1].tolist() == [0, 1, 2, 2]

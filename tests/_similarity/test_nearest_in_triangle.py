import numpy as np
import pytest
import torch

from clipreid_kit._similarity import nearest_in_triangle as triangle
from clipreid_kit._similarity import nearest_lists


@pytest.mark.parametrize("group", [3, 64])
@pytest.mark.parametrize(("rows", "columns"), [(512, 8192), (7, 16), (5, 5), (1, 3)])
@pytest.mark.parametrize("count", [1, 6, 29])
def test_nearest_others_equal_those_of_a_stable_sort(monkeypatch, group, rows, columns, count):
    monkeypatch.setattr(triangle, "ROWS", rows)
    monkeypatch.setattr(triangle, "COLUMNS", columns)
    monkeypatch.setattr(nearest_lists, "_GROUP", group)
    monkeypatch.setattr(nearest_lists, "_LEAST_GROUPED", 1)

    points = torch.randint(-2, 3, (30, 3), generator=torch.Generator().manual_seed(0)).float()
    similarity = points @ points.T  # small integers, with many ties
    seen = torch.zeros(30, 30)

    def product(first, second, buffer):
        tile = similarity[first, second]
        return buffer[: tile.numel()].view(tile.shape).copy_(tile)

    def visit(tile, top, left):
        seen[top : top + tile.shape[0], left : left + tile.shape[1]] = tile

    nearness, index = triangle.nearest_in_triangle(
        product, 30, count, torch.device("cpu"), visit=visit, first_of_ties=True
    )

    without_self = similarity.clone().fill_diagonal_(-np.inf)
    expected = without_self.argsort(dim=1, descending=True, stable=True)[:, :count]
    assert index.tolist() == expected.tolist()
    assert torch.equal(nearness, without_self.gather(1, expected))
    assert torch.equal(seen.triu(), similarity.triu())

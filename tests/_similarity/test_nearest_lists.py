import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit._similarity import nearest_lists
from clipreid_kit._similarity.nearest_lists import first_of_largest, flat_nonzero, offer


@pytest.mark.parametrize("strict", [True, False])
def test_flat_nonzero(strict):
    tile = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    found = flat_nonzero(tile, torch.tensor([[1.0], [3.0]]), strict=strict)

    assert found.tolist() == ([1] if strict else [0, 1, 2])
    assert flat_nonzero(tile, torch.tensor([[1.0, 1.0]]), strict=strict).tolist() == (
        [1, 2] if strict else [0, 1, 2]
    )


@given(
    seed=st.integers(0, 2**31),
    kept=st.integers(1, 5),
    widths=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    by_row=st.booleans(),
    least_grouped=st.sampled_from([0, 1 << 14]),
)
def test_offered_tiles_leave_the_nearest_values(seed, kept, widths, by_row, least_grouped):
    tiles = [
        torch.rand(3, width, generator=torch.Generator().manual_seed(seed)) for width in widths
    ]
    nearness = torch.full((3, kept), -torch.inf)
    index = torch.zeros((3, kept), dtype=torch.int64)

    offset = 0
    for tile in tiles:
        given = tile if by_row else tile.T.contiguous()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nearest_lists, "_LEAST_GROUPED", least_grouped)
            offer(
                nearness,
                index,
                given,
                offset,
                by_row=by_row,
                empty=offset == 0 and tile.shape[1] > kept,
            )
        offset += tile.shape[1]

    rows = torch.cat(tiles, dim=1).numpy()
    best = -np.sort(-rows, axis=1)[:, :kept]
    found = nearness[:, : best.shape[1]].numpy()
    assert (found == best).all()
    assert (np.take_along_axis(rows, index[:, : best.shape[1]].numpy(), 1) == found).all()


def first_by_sorting(rows, count):
    """Columns by descending value, then by position."""
    return np.argsort(-rows, axis=1, kind="stable")[:, :count]


@given(seed=st.integers(0, 2**31), count=st.integers(0, 7), values=st.integers(1, 4))
def test_the_first_of_equal_values_are_taken(seed, count, values):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(values, (5, 7), generator=generator).float()

    found, columns = first_of_largest(rows, count)
    assert columns.tolist() == first_by_sorting(rows.numpy(), count).tolist()
    assert torch.equal(found, rows.gather(1, columns))


@given(
    seed=st.integers(0, 2**31),
    kept=st.integers(1, 5),
    widths=st.lists(st.integers(6, 90), min_size=1, max_size=4),
    by_row=st.booleans(),
    least_grouped=st.sampled_from([0, 1 << 14]),
)
def test_of_ties_in_offered_tiles_the_first_stay(seed, kept, widths, by_row, least_grouped):
    generator = torch.Generator().manual_seed(seed)
    tiles = [torch.randint(30, (3, width), generator=generator).float() for width in widths]
    nearness = torch.full((3, kept), -torch.inf)
    index = torch.zeros((3, kept), dtype=torch.int64)

    offset = 0
    for tile in tiles:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nearest_lists, "_LEAST_GROUPED", least_grouped)
            offer(
                nearness,
                index,
                tile if by_row else tile.T.contiguous(),
                offset,
                by_row=by_row,
                empty=offset == 0,
                first_of_ties=True,
            )
        offset += tile.shape[1]

    assert index.tolist() == first_by_sorting(torch.cat(tiles, dim=1).numpy(), kept).tolist()


@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize("num_hits", [0, 1, 20, 2000])
def test_nearer_values_in_groups_equal_those_of_a_comparison(by_row, num_hits):
    generator = torch.Generator().manual_seed(num_hits)
    lists = torch.rand(130, 150, generator=generator)
    place = torch.randint(lists.numel(), (num_hits,), generator=generator)
    lists.view(-1)[place] += 1
    tile = lists if by_row else lists.T.contiguous()

    nearer = nearest_lists._nearer_than_last(tile, torch.ones(130, 1), by_row)

    owner, item = torch.nonzero(lists > 1, as_tuple=True)
    assert tile.numel() >= nearest_lists._LEAST_GROUPED
    assert nearer.owner.tolist() == owner.tolist()
    assert nearer.item.tolist() == item.tolist()
    assert nearer.value.tolist() == lists[owner, item].tolist()


@pytest.mark.parametrize("by_row", [True, False])
def test_items_that_must_not_enter_do_not_hide_the_others(by_row):
    lists = torch.full((4, 8192), -torch.inf)
    lists[:, 5000] = 1.0
    lists[:, 17] = -2.0
    nearness = torch.full((4, 3), -torch.inf)
    index = torch.zeros((4, 3), dtype=torch.int64)

    offer(nearness, index, lists if by_row else lists.T.contiguous(), 0, by_row=by_row, empty=True)

    assert nearness.tolist() == [[1.0, -2.0, -torch.inf]] * 4
    assert index[:, :2].tolist() == [[5000, 17]] * 4


@pytest.mark.parametrize("by_row", [True, False])
def test_the_first_tile_is_not_sorted_whole(by_row):
    lists = torch.rand(4, 8192, generator=torch.Generator().manual_seed(0))
    below = nearest_lists._below_the_nearest(lists if by_row else lists.T.contiguous(), 10, by_row)

    num_above = (lists > below).sum(dim=1)
    assert bool((num_above >= 10).all())
    assert bool((num_above < 100).all())

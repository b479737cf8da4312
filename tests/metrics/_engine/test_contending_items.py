import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.metrics._engine.contending_items import cells_of, find_contending_items

VALUES = [-np.inf, -1.5, -1e-20, -0.0, 0.0, 1e-20, 0.3, np.nextafter(np.float32(0.3), 1), 1.0]


def by_definition(numbers, low, beyond):
    """Columns of one query's items in a window, and of those beyond it."""
    inside = np.flatnonzero((numbers >= low) & (numbers < beyond))
    return set(inside.tolist()), set(np.flatnonzero(numbers >= beyond).tolist())


@given(
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    width=st.sampled_from([1, 2, 30, 1 << 15]),
    share=st.sampled_from([0.02, 0.9]),
)
def test_no_item_of_a_window_is_lost(seed, dtype, width, share):
    rng = np.random.default_rng(seed)
    some = rng.choice(VALUES, (4, width)) * 10.0 ** rng.integers(-12, 3)
    values = torch.from_numpy(np.where(rng.random((4, width)) < share, some, -np.inf)).to(dtype)
    numbers = values.float().numpy()

    # a window for each of five matches of all queries but the last one
    query = np.repeat(np.arange(3), 5)
    finite = np.where(np.isfinite(numbers[query]), numbers[query], 0.5)
    low = np.array([rng.choice(row) for row in finite], dtype=np.float32)
    low = torch.from_numpy(low - np.abs(low) * 1e-3).to(dtype).float().numpy()
    beyond = np.nextafter(low + rng.choice([0, 1e-7, 0.01]).astype(np.float32), np.float32(np.inf))
    lowest, highest = np.full((2, 4), np.float32(np.inf))
    np.minimum.at(lowest, query, low)
    highest[:3] = -np.inf
    np.maximum.at(highest, query, beyond)

    items = find_contending_items(values, lowest, highest)
    first, last = items.near(query, low, beyond)
    for i in range(len(query)):
        inside, above = by_definition(numbers[query[i]], low[i], beyond[i])
        near = set(items.columns(np.arange(first[i], last[i])).tolist())
        after = set(items.columns(np.arange(last[i], items.ends[query[i]])).tolist())
        assert inside <= near
        assert after <= above <= after | near
        assert (items.queries(np.arange(first[i], items.ends[query[i]])) == query[i]).all()


@pytest.mark.parametrize(("width", "bits"), [(1 << 14, 32), ((1 << 14) + 1, 64), (1 << 17, 64)])
def test_packed_items_fit_their_type(width, bits):
    lowest, highest = np.float32([0.9]), np.float32([0.9000001])
    cells = cells_of(lowest, highest, width)
    columns = np.array([0, width - 1], dtype=cells.dtype)
    for value in (-np.inf, 0.0, 0.9, 1.0, 4.0):
        packed = cells.pack(np.full(2, value, np.float32), np.zeros(2, dtype=np.int64), columns)
        assert packed.dtype.itemsize * 8 == bits
        assert (packed >= 0).all()
        assert (packed < np.iinfo(packed.dtype).max).all()
        assert (packed & ((1 << cells.column_bits) - 1)).tolist() == columns.tolist()


def test_cells_tell_near_values_apart():
    values = torch.linspace(0.5, 0.6, 5000)[None]
    items = find_contending_items(values, np.float32([0.55]), np.float32([0.56]))
    first, last = items.near(np.zeros(1, dtype=np.int64), np.float32([0.555]), np.float32([0.5551]))
    assert last[0] - first[0] <= 7  # 5 or 6 of them are inside

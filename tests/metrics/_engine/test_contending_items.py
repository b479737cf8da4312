import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.metrics._engine.contending_items import (
    columns_of,
    find_contending_items,
    pack,
    queries_of,
)


@given(st.integers(0, 1000), st.sampled_from([torch.float32, torch.bfloat16]))
def test_finds_all_items_that_are_not_below(seed, dtype):
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(
        rng.choice([-np.inf, -1.5, -1e-20, -0.0, 0.0, 1e-20, 0.3, 1.0], (4, 30))
    ).to(dtype)
    lowest = (
        torch.from_numpy(rng.choice([-1.5, -1e-20, 0.0, 1e-20, 0.3, 2.0, np.inf], 4))
        .to(dtype)
        .float()
        .numpy()
    )
    packed, ends = find_contending_items(values, lowest)
    numbers = values.float().numpy()

    assert ends.tolist() == np.cumsum((numbers >= lowest[:, None]).sum(axis=1)).tolist()

    query, columns = queries_of(packed), columns_of(packed)
    assert set(zip(query.tolist(), columns.tolist(), strict=True)) == set(
        zip(*(x.tolist() for x in np.nonzero(numbers >= lowest[:, None])), strict=True)
    )

    for i in range(4):  # ascending by value, for each query
        mine = numbers[i, columns[query == i]]
        assert (np.diff(mine) >= 0).all()


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=20))
def test_packing_keeps_the_order(values):
    values = np.array(values, dtype=np.float32)
    packed = pack(np.zeros(len(values), dtype=np.int64), values, 0)

    assert (packed >= 0).all()
    for i in range(len(values)):
        assert ((packed > packed[i]) == (values > values[i])).all()
        assert ((packed == packed[i]) == (values == values[i])).all()

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.samplers._rows import (
    KEY_BITS,
    RowsByIdentity,
    generator,
    order_within,
    order_within_labels,
    random_keys,
)

groups_and_keys = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=40)


@given(
    groups_and_keys, st.sampled_from([1, 2**50])
)  # with large group numbers the three no longer fit into 63 bits
def test_orders_by_group_then_key_then_place(pairs, scale):
    group = np.array([g * scale for g, _ in pairs], dtype=np.int64)
    key = np.array([k * (2 ** (KEY_BITS - 2) - 1) for _, k in pairs], dtype=np.int64)
    want = sorted(range(len(pairs)), key=lambda i: (group[i], key[i], i))
    assert order_within(group, key).tolist() == want


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.sampled_from([1, 2**61]))
def test_order_of_labels_is_stable(labels, scale):
    array = np.array([label * scale for label in labels], dtype=np.int64)
    assert order_within_labels(array).tolist() == sorted(
        range(len(labels)), key=lambda i: labels[i]
    )


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40))
def test_groups_rows_by_identity(labels):
    held = RowsByIdentity("x", labels, 1, "repeat", None, 1)
    assert held.labels.tolist() == sorted(set(labels))
    for label, first, count in zip(held.labels, held.first, held.count, strict=True):
        assert held.rows[first : first + count].tolist() == [
            i for i, other in enumerate(labels) if other == label
        ]


@pytest.mark.parametrize("cameras", [None, [i % 3 for i in range(30)]])
@pytest.mark.parametrize("spread", ["draw", "parts"])
def test_shuffles_each_identity_by_itself(cameras, spread):
    labels = np.arange(30) % 4
    held = RowsByIdentity("x", labels, 3, "repeat", cameras, 1)
    identities = np.array([2, 0, 2])
    rows = held.shuffled(
        identities, random_keys(8 + 7 + 7, generator(1)).astype(np.int64)[:22], spread
    )
    own = [sorted(np.flatnonzero(labels == i).tolist()) for i in (2, 0, 2)]
    ends = np.cumsum([len(o) for o in own]).tolist()
    blocks = [rows[end - len(o) : end].tolist() for o, end in zip(own, ends, strict=True)]
    assert [sorted(block) for block in blocks] == own
    assert blocks[0] != blocks[2]


def test_streams_differ():
    drawn = [
        random_keys(4, generator(*numbers)).tolist()
        for numbers in [(0, 0), (0, 1), (1, 0), (0, 0, 1)]
    ]
    assert all(drawn[i] != drawn[j] for i in range(4) for j in range(i))
    assert random_keys(4, generator(0, 1)).tolist() == drawn[1]

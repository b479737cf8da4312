import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.samplers import _integers
from clipreid_kit.samplers._integers import as_integers, order_by_group_and_key, stable_order

KEY_BITS = 31
groups_and_keys = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=40)


@pytest.mark.parametrize(
    "values",
    [[3, 3, 8], range(3), torch.tensor([3, 3, 8]), np.array([3, 3, 8], dtype=np.uint8), []],
)
def test_as_integers(values):
    array = as_integers("owner", "labels", values)
    assert array.dtype == np.int64
    assert array.tolist() == [int(value) for value in values]


@pytest.mark.unhooked
@pytest.mark.parametrize("values", [["a", "b"], [0.5, 1.5], [[0, 1]], [True, False]])
def test_as_integers_refuses_other_values(values):
    message = r"owner: expected labels as a flat list of integers, got shape .* np\.unique"
    with pytest.raises(ValueError, match=message):
        as_integers("owner", "labels", values)


# With the large scale, group, key and position do not fit into 63 bits.
@given(groups_and_keys, st.sampled_from([1, 2**50]))
def test_order_by_group_then_key_then_position(pairs, scale):
    group = np.array([group * scale for group, _ in pairs], dtype=np.int64)
    key = np.array([key * (2 ** (KEY_BITS - 2) - 1) for _, key in pairs], dtype=np.int64)

    order = order_by_group_and_key(group, key, KEY_BITS)

    expected = sorted(range(len(pairs)), key=lambda i: (group[i], key[i], i))
    assert order.tolist() == expected


# With the large scale, value and position do not fit into 63 bits.
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.sampled_from([1, 2**61]))
def test_stable_order(values, scale):
    array = np.array([value * scale for value in values], dtype=np.int64)
    expected = sorted(range(len(values)), key=lambda i: values[i])
    assert stable_order(array).tolist() == expected


@pytest.mark.parametrize("size", [1, 2, 3, 30])
@pytest.mark.parametrize("highest", [0, 1, 4, 1000])
def test_stable_order_in_slices(monkeypatch, size, highest):
    values = np.random.default_rng(size).integers(-1, highest, size, endpoint=True)
    expected = np.argsort(values, kind="stable")
    monkeypatch.setattr(_integers, "SLICE", 4)

    order = stable_order(values)
    assert order.dtype == np.int32
    assert order.tolist() == expected.tolist()


def test_int64_labels_are_not_copied():
    labels = np.arange(3)
    assert np.shares_memory(as_integers("owner", "labels", labels), labels)


def test_as_integers_refuses_masked_values():
    labels = np.ma.masked_array([0, 1, 1], mask=[0, 0, 1])
    with pytest.raises(ValueError, match="owner: expected labels without a mask, got 1 masked"):
        as_integers("owner", "labels", labels)

"""Connected components against a loop; bounded ones by hand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clipreid_kit.retrieval.discovery.components import (
    bounded_components,
    connected_components,
    renumber,
)

PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


def by_loop(pairs, count):
    """Number of the component of each image: labels spread along pairs until nothing changes."""
    labels = list(range(count))
    for _ in range(count):
        for one, other in pairs:
            labels[one] = labels[other] = min(labels[one], labels[other])

    found = {}
    out = []
    for label in labels:
        out.append(-1 if labels.count(label) < 2 else found.setdefault(label, len(found)))
    return out


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_components_are_those_of_a_loop(pairs):
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    found = connected_components("test", first, second, 10)
    assert found.tolist() == by_loop(pairs, 10)

    unbounded = bounded_components(first, second, np.ones(len(first)), 10, 10)
    is_alone = found < 0
    assert renumber(unbounded, ~is_alone).tolist() == found.tolist()


def test_large_values_join_first():
    first, second = np.array([0, 1, 2, 3]), np.array([1, 2, 3, 4])
    values = np.array([0.5, 0.9, 0.6, 0.7])
    # 1-2 and 3-4 first; 2-3 would make four, 0-1 makes three
    found = bounded_components(first, second, values, 5, 3)
    assert found.tolist() == [0, 0, 0, 1, 1]
    assert bounded_components(first, second, values, 5, 2).tolist() == [0, 1, 1, 2, 2]


def test_labels_are_numbered_by_their_first_image():
    labels, is_member = np.array([7, 3, 7, 5, 3]), np.array([True, True, True, False, True])
    assert renumber(labels, is_member).tolist() == [0, 1, 0, -1, 1]
    assert renumber(labels, np.zeros(5, dtype=bool)).tolist() == [-1] * 5

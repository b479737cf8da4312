"""Average linkage against a slow loop and by hand."""

import numpy as np
import pytest

from clipreid_kit.retrieval.discovery import average_linkage as module
from clipreid_kit.retrieval.discovery.average_linkage import average_linkage, split_large


def by_loop(values, least):
    """Join the two clusters with the largest mean value, as long as it is large enough."""
    clusters = [[number] for number in range(len(values))]
    while len(clusters) > 1:
        best = max(
            (np.mean([values[a, b] for a in one for b in other]), i, j)
            for i, one in enumerate(clusters)
            for j, other in enumerate(clusters[:i])
        )
        if best[0] < least:
            break
        clusters[best[2]] += clusters.pop(best[1])
    return {frozenset(cluster) for cluster in clusters}


def groups_of(labels):
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}


@pytest.mark.parametrize("least", [-0.5, 0.3, 0.6, 0.95])
def test_clusters_are_those_of_a_loop(least):
    rng = np.random.default_rng(0)
    for size in (2, 3, 12):
        values = rng.random((size, size))
        values = (values + values.T) / 2
        found = average_linkage(np.arange(size), lambda a, b, v=values: v[np.ix_(a, b)], least)
        assert groups_of(found) == by_loop(values, least)


def test_blocks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(1)
    values = rng.random((30, 30))
    values = (values + values.T) / 2
    images = np.arange(30)
    whole = average_linkage(images, lambda a, b: values[np.ix_(a, b)], 0.5)
    monkeypatch.setattr(module, "_ROWS", 7)
    assert (
        average_linkage(images, lambda a, b: values[np.ix_(a, b)], 0.5).tolist() == whole.tolist()
    )


def test_one_wrong_pair_does_not_join_two_identities():
    values = np.full((6, 6), 0.1)
    values[:3, :3] = values[3:, 3:] = 0.9
    values[2, 3] = values[3, 2] = 0.99  # is joined first, and then weighed against all others
    found = average_linkage(np.arange(6), lambda a, b: values[np.ix_(a, b)], 0.5)
    assert len(set(found.tolist())) > 1


def test_large_components_are_split(monkeypatch):
    monkeypatch.setattr(module, "MOST_IMAGES", 3)
    labels = np.array([0, 0, 0, 0, 0, 1, 1, -1])
    first, second = np.array([0, 1, 2, 3, 5]), np.array([1, 2, 3, 4, 6])
    found, num_split = split_large(labels, first, second, np.array([0.5, 0.9, 0.6, 0.7, 0.8]))
    assert num_split == 5
    assert found.tolist() == [2, 2, 2, 3, 3, 1, 1, -1]

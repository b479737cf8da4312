import sys

import numpy as np
import pytest
import torch
from oracles.dbscan import dbscan

from clipreid_kit.metrics import JaccardDistances
from clipreid_kit.retrieval import PseudoLabels, pseudo_labels
from clipreid_kit.retrieval.discovery.components import renumber


def groups(sizes, dim=16, noise=0.3, seed=0):
    """Rows around random centres, and the number of the centre of each."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    centres = torch.randn(len(sizes), dim, generator=generator)
    return centres[labels] + noise * torch.randn(len(labels), dim, generator=generator), labels


@pytest.mark.parametrize("noise", [0.2, 0.8, 1.5])
@pytest.mark.parametrize("min_samples", [1, 2, 4])
def test_equals_dbscan_as_printed(noise, min_samples):
    rows, _ = groups([9, 7, 5, 4, 2, 1, 1], noise=noise)
    rows[-3:] = rows[:3]  # equal images are neighbours at distance 0
    every = torch.arange(len(rows))
    distances = JaccardDistances(rows, k1=6, k2=3).between(every, every).numpy()

    for limit in (0.3, 0.5, float(np.sort(distances[0])[3])):  # also at a distance exactly
        if not 0 < limit < 1:
            continue
        want = np.array(dbscan(distances, np.float32(limit), min_samples))
        want = renumber(want, want >= 0)
        options = {"max_distance": limit, "min_samples": min_samples, "min_size": 1}
        found = pseudo_labels(rows, k1=6, k2=3, **options)
        assert found.labels.tolist() == want.tolist()


@pytest.mark.parametrize("method", ["dbscan", "average"])
def test_clusters_outliers_and_scores(method):
    rows, known = groups([8, 8, 8, 1])
    found = pseudo_labels(rows, method=method, k1=8, k2=2)
    assert found.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8 + [-1]
    assert (found.num_clusters, found.num_outliers) == (3, 1)
    assert found.evaluate(known.tolist()).ari == 1

    wrong = PseudoLabels(torch.tensor([0, 0, -1, -1]))
    assert wrong.evaluate(["a", "b", "c", "d"]).pair_precision == 0


def test_small_clusters_are_outliers_and_numbers_have_no_gaps():
    rows, _ = groups([3, 8, 5])
    found = pseudo_labels(rows, k1=7, k2=2, min_samples=2, min_size=5)
    assert found.labels.tolist() == [-1] * 3 + [0] * 8 + [1] * 5


def test_average_linkage_does_not_follow_a_bridge():
    angles = torch.cat([torch.linspace(0, 0.3, 8), torch.tensor([0.6, 0.9, 1.2])])
    angles = torch.cat([angles, torch.linspace(1.5, 1.8, 8)])
    rows = torch.stack([angles.cos(), angles.sin()], dim=1)
    options = {"k1": 10, "k2": 1, "max_distance": 0.7}
    joined = pseudo_labels(rows, min_samples=2, **options)
    parted = pseudo_labels(rows, method="average", **options)
    assert joined.labels[0] == joined.labels[-1]
    assert parted.labels[0] != parted.labels[-1]


def test_more_neighbours_than_images():
    rows, _ = groups([4, 4])
    assert pseudo_labels(rows, k1=100, k2=100, max_distance=0.9).num_clusters >= 1


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (torch.eye(1), {}, "a single image has no neighbours"),
        (torch.full((3, 2), torch.nan), {}, "NaN"),
        (
            torch.eye(6),
            {"k1": 1, "k2": 1},
            "no cluster of 2 or more images was found among 6; raise max",
        ),
        (torch.eye(6), {"method": "average", "k1": 1, "k2": 1}, "no cluster of 2 or more images"),
        (torch.eye(2), {"max_distance": 1.0}, "max_distance is 1.0; it has to be between 0 and 1"),
        (torch.eye(2), {"method": "kmeans"}, "method to be one of dbscan, average"),
        (torch.eye(2), {"min_samples": 0}, "min_samples as a whole number >= 1"),
        (torch.eye(2), {"min_size": 0}, "min_size as a whole number >= 1"),
    ],
)
def test_bad_input(rows, options, message):
    with pytest.raises(ValueError, match=message):
        pseudo_labels(rows, **options)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ValueError, match=r"pseudo_labels: scikit-learn is needed\. Run pip inst"):
        pseudo_labels(torch.eye(3))

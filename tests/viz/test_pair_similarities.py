import numpy as np
import pytest
import torch

from clipreid_kit.viz import similarity_histogram, similarity_histogram_figure
from clipreid_kit.viz.pair_similarities import SimilarityHistogram

EDGES = np.linspace(0.0, 1.0, 5)


def random_sides(seed=0):
    """Queries and gallery with identities and cameras."""
    rng = np.random.default_rng(seed)
    sides = []
    for count in (9, 23):
        rows = torch.from_numpy(rng.normal(size=(count, 5))).float()
        sides.append((rows, rng.integers(0, 4, count), rng.integers(0, 3, count)))
    return sides


def pairs_by_loops(query, gallery, is_left_out):
    """Similarities of positives and of negatives, pair by pair."""
    found = {True: [], False: []}
    for i, row in enumerate(query[0]):
        for j, other in enumerate(gallery[0]):
            same = bool(query[1][i] == gallery[1][j])
            if not (same and is_left_out(i, j)):
                found[same].append(float(torch.cosine_similarity(row, other, dim=0)))
    return found


@pytest.mark.parametrize("with_cameras", [True, False])
@pytest.mark.parametrize("block", [1 << 22, 30])
def test_counts_are_those_of_a_loop_over_pairs(monkeypatch, with_cameras, block):
    monkeypatch.setattr("clipreid_kit.viz.pair_similarities._BLOCK", block)
    query, gallery = random_sides()
    cameras = {}
    if with_cameras:
        cameras = {"query_cameras": query[2], "gallery_cameras": gallery[2]}

    found = similarity_histogram(
        query[0], gallery[0], query_ids=query[1], gallery_ids=gallery[1], num_bins=7, **cameras
    )

    def same_camera(i, j):
        return with_cameras and query[2][i] == gallery[2][j]

    pairs = pairs_by_loops(query, gallery, same_camera)
    values = pairs[True] + pairs[False]
    assert found.edges[[0, -1]] == pytest.approx([min(values), max(values)], abs=1e-6)
    inner = found.edges.copy()
    inner[[0, -1]] += (-1e-6, 1e-6)  # the loop rounds otherwise
    np.testing.assert_array_equal(found.positives, np.histogram(pairs[True], inner)[0])
    np.testing.assert_array_equal(found.negatives, np.histogram(pairs[False], inner)[0])


def test_without_a_gallery_no_image_meets_itself():
    rows = torch.eye(3)
    found = similarity_histogram(rows, query_ids=[0, 0, 1])
    assert (found.positives.sum(), found.negatives.sum()) == (2, 4)


def test_without_a_gallery_cameras_are_those_of_the_queries():
    found = similarity_histogram(torch.eye(3), query_ids=[0, 0, 0], query_cameras=[1, 1, 2])
    assert found.positives.sum() == 4


def test_further_rules_leave_out_matches_alone():
    found = similarity_histogram(
        torch.eye(2),
        torch.eye(2),
        query_ids=[0, 1],
        gallery_ids=[0, 1],
        exclude=[(["a", "b"], ["a", "a"])],
    )
    assert (found.positives.sum(), found.negatives.sum()) == (1, 2)


def test_equal_similarities_have_a_range():
    found = similarity_histogram(torch.ones(4, 2), query_ids=[0, 0, 1, 1], num_bins=4)
    assert found.edges[-1] - found.edges[0] == pytest.approx(0.02)
    assert (found.positives.sum(), found.negatives.sum()) == (4, 8)


def test_the_threshold_accepts_no_more_negatives_than_allowed():
    histogram = SimilarityHistogram(EDGES, np.zeros(4, np.int64), np.array([10, 5, 4, 1]))
    assert histogram.threshold(0.05) == 0.75
    assert histogram.threshold(0.049) == 1.0
    assert histogram.threshold(0.25) == 0.5
    assert histogram.threshold(1.0) == 0.0


def test_a_divided_bin_counts_in_proportion():
    histogram = SimilarityHistogram(EDGES, np.array([0, 0, 0, 8]), np.array([4, 0, 4, 0]))
    assert histogram.rates(0.625) == (1.0, 0.25)
    assert histogram.rates(0.875) == (0.5, 0.0)
    assert histogram.rates(-3.0) == (1.0, 1.0)


@pytest.mark.parametrize(("num_bins", "expected"), [(9, 4), (4, 4), (3, 2), (2, 2), (1, 1)])
def test_merging_keeps_every_pair(num_bins, expected):
    histogram = SimilarityHistogram(EDGES, np.array([1, 2, 3, 4]), np.array([4, 3, 2, 1]))
    merged = histogram.merged(num_bins)
    assert len(merged.positives) == expected
    assert merged.positives.sum() == 10
    assert merged.edges[[0, -1]].tolist() == [0.0, 1.0]


def test_each_kind_is_drawn_as_shares_of_its_own_pairs():
    histogram = SimilarityHistogram(EDGES, np.array([0, 0, 0, 2]), np.array([30, 10, 0, 0]))
    figure = similarity_histogram_figure(histogram, threshold=0.5, label="calibrated")
    filled, outline = figure.axes[0].patches[2:]
    assert filled.get_data().values.tolist() == [0, 0, 0, 100]
    assert outline.get_linestyle() == "solid"
    assert figure.axes[0].patches[1].get_data().values.tolist() == [75, 25, 0, 0]
    assert figure.axes[0].texts[0].get_text() == "calibrated 0.500"
    assert "2 pairs" in figure.texts[0].get_text()


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"query_ids": [0, 0, 0]}, "query_ids as 2 ids"),
        ({"gallery_ids": ["a", "b"]}, "query_ids are integers and gallery_ids are strings"),
        ({"gallery_ids": None}, "gallery_embeddings need gallery_ids"),
        ({"query_cameras": [0, 1]}, "only one side has cameras"),
        ({"num_bins": 0}, "num_bins as a whole number >= 1"),
        ({"query_embeddings": torch.full((2, 2), torch.nan)}, "NaN or infinity in row 0"),
        ({"query_embeddings": torch.zeros(0, 2)}, "at least one row"),
    ],
)
def test_impossible_arguments_are_explained(options, text):
    arguments = {"query_embeddings": torch.eye(2), "gallery_embeddings": torch.eye(2)}
    arguments |= {"query_ids": [0, 1], "gallery_ids": [0, 1]}
    with pytest.raises(ValueError, match=text):
        similarity_histogram(**(arguments | options))


def test_no_pair_is_an_error():
    with pytest.raises(ValueError, match="the rules leave no pair"):
        similarity_histogram(torch.eye(1), query_ids=[0])
    empty = SimilarityHistogram(EDGES, np.zeros(4, np.int64), np.zeros(4, np.int64))
    with pytest.raises(ValueError, match="at least one pair"):
        similarity_histogram_figure(empty)
    with pytest.raises(ValueError, match="no pair of two identities"):
        empty.threshold(0.1)

"""Expanded and re-ranked searches against the functions of the metrics, over whole galleries."""

import numpy as np
import pytest
import torch

from clipreid_kit.data import ImageRecord
from clipreid_kit.metrics import k_reciprocal_rerank, query_expansion
from clipreid_kit.retrieval import Expand, GalleryIndex, Rerank, calibrate


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((12, 8)).repeat(6, axis=0)
    return (centres + 0.8 * rng.standard_normal(centres.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def index(rows, tmp_path_factory):
    records = [ImageRecord(f"{n}.jpg", n // 6, camera=n % 3) for n in range(len(rows))]
    return GalleryIndex.build(rows, records, store=tmp_path_factory.mktemp("index") / "i")


@pytest.fixture(scope="module")
def queries(rows):
    noise = np.random.default_rng(1).standard_normal((3, 8))
    return (rows[[4, 20, 60]] + 0.5 * noise).astype(np.float32)


@pytest.mark.parametrize("alpha", [None, 0.0, 3.0])
def test_expansion_is_that_of_the_metrics(index, rows, queries, alpha):
    mixed = query_expansion(torch.from_numpy(queries), torch.from_numpy(rows), k=5, alpha=alpha)
    expected = index.search(mixed, k=20)
    found = index.search(queries, k=20, expand=Expand(5, alpha))
    np.testing.assert_array_equal(found.keys, expected.keys)
    np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-6)


def test_expansion_mixes_images_that_may_be_found(index, rows, queries):
    is_other = np.arange(len(rows)) % 3 != 1
    gallery = torch.from_numpy(rows[is_other])
    mixed = query_expansion(torch.from_numpy(queries), gallery, k=4)
    expected = index.search(mixed, k=5, query_cameras=[1, 1, 1])
    found = index.search(queries, k=5, query_cameras=[1, 1, 1], expand=Expand(4))
    np.testing.assert_array_equal(found.keys, expected.keys)

    nothing = index.search(queries, k=5, where={"identity": 99}, expand=Expand(4))
    assert nothing.rows.shape == (3, 0)
    more = index.search(queries, k=5, where={"identity": [0]}, expand=Expand(50))
    assert (more.keys[:, :5] >= 0).all()


@pytest.mark.parametrize("options", [{}, {"k1": 5, "k2": 1, "lambda_value": 0.0}])
def test_a_shortlist_of_the_whole_gallery_is_the_reranking_of_the_metrics(
    index, rows, queries, options
):
    found = index.search(queries, k=len(rows), rerank=Rerank(shortlist=len(rows), **options))
    plain = index.search(queries, k=len(rows))
    for number, query in enumerate(torch.from_numpy(queries)):
        distance = k_reciprocal_rerank(query[None], torch.from_numpy(rows), **options)[0].numpy()
        similarity = np.empty(len(rows))
        similarity[plain.rows[number]] = plain.similarities[number]
        expected = np.lexsort((np.arange(len(rows)), -similarity, distance))
        assert found.rows[number].tolist() == expected.tolist()
        np.testing.assert_array_equal(found.similarities[number], similarity[expected])
    assert (found.rows != plain.rows).any()


def test_only_the_shortlist_is_ordered_again(index, rows, queries):
    plain = index.search(queries, k=30)
    found = index.search(queries, k=30, rerank=Rerank(shortlist=12, k1=4))
    np.testing.assert_array_equal(found.keys[:, 12:], plain.keys[:, 12:])
    np.testing.assert_array_equal(np.sort(found.keys[:, :12]), np.sort(plain.keys[:, :12]))
    short = np.sort(plain.rows[0, :12])
    distance = k_reciprocal_rerank(
        torch.from_numpy(queries[:1]), torch.from_numpy(rows[short]), k1=4
    )[0]
    assert found.rows[0, 0] == short[int(distance.argmin())]

    first = index.search(queries, k=3, rerank=Rerank(shortlist=12, k1=4))
    np.testing.assert_array_equal(first.keys, found.keys[:, :3])
    grouped = index.search(queries, k=3, rerank=Rerank(shortlist=12, k1=4), group_by="identity")
    for hits, whole in zip(grouped, found, strict=True):
        order = list(dict.fromkeys(hit.record.identity for hit in whole))[:3]
        assert [hit.record.identity for hit in hits] == order


def test_a_query_does_not_depend_on_others(index, queries):
    together = index.search(queries, k=5, expand=Expand(3), rerank=Rerank(20))
    alone = index.search(queries[1], k=5, expand=Expand(3), rerank=Rerank(20))
    np.testing.assert_array_equal(together.keys[1:2], alone.keys)


def test_a_mean_query_can_be_expanded(index, queries):
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    expected = index.search(unit.mean(axis=0), k=5, expand=Expand(3))
    found = index.search(queries, k=5, combine="mean", expand=Expand(3))
    np.testing.assert_array_equal(found.keys, expected.keys)


def test_a_mixture_has_no_probabilities(index, rows, queries):
    records = index.records(index.keys())
    index.set_calibration(calibrate(rows, records, num_resamples=5))
    assert index.search(queries, k=3).probabilities is not None
    assert index.search(queries, k=3, rerank=Rerank(20)).probabilities is not None
    assert index.search(queries, k=3, expand=Expand(3)).probabilities is None
    index.set_calibration(None)


@pytest.mark.unhooked
def test_options_out_of_range(index, queries):
    with pytest.raises(ValueError, match="Expand"):
        Expand(0)
    with pytest.raises(ValueError, match="Expand"):
        Expand(3, -1.0)
    with pytest.raises(ValueError, match="Rerank"):
        Rerank(1)
    with pytest.raises(ValueError, match=r"lambda_value is 2.0; it has to be from 0 to 1"):
        Rerank(lambda_value=2.0)
    with pytest.raises(ValueError, match='expand and rerank are not defined for combine="max"'):
        index.search(queries, k=2, combine="max", rerank=Rerank(5))

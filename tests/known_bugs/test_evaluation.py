"""Wrong or unstable figures of neighbouring evaluators."""

import numpy as np
import pytest
import torch
from known_bugs.peers import is_measured
from oracles import reid as reid_oracle
from oracles import rerank as rerank_oracle

from clipreid_kit import (
    KReciprocalReranker,
    LeaveOneOutProtocol,
    Market1501Protocol,
    evaluate_reid,
    evaluate_reid_similarity,
    evaluate_retrieval_similarity,
    k_reciprocal_rerank,
)
from clipreid_kit.data import mine_hard_negatives


def at_ranks(ranks, num_gallery):
    """The result of one query whose matches are at the given ranks of the gallery."""
    similarity = torch.arange(num_gallery, 0, -1).float()[None]
    gallery_ids = [7 if rank in ranks else 0 for rank in range(1, num_gallery + 1)]
    return evaluate_reid_similarity(similarity, query_ids=[7], gallery_ids=gallery_ids)


def random_sides(seed=0, num_queries=9, num_gallery=30):
    rng = np.random.default_rng(seed)
    return {
        "query_embeddings": rng.standard_normal((num_queries, 5)).astype(np.float32),
        "gallery_embeddings": rng.standard_normal((num_gallery, 5)).astype(np.float32),
        "query_ids": np.arange(num_queries) % 4,
        "gallery_ids": np.arange(num_gallery) % 6,
    }


def test_a_collapsed_model_scores_near_zero():
    """fast-reid, `evaluation/rank.py`: with equal distances mAP is that of the gallery's order.

    Here: a match tied with others ranks below them, in any order of the gallery.
    """
    equal = torch.ones(1, 6)
    for gallery_ids in ([7, 7, 0, 0, 0, 0], [0, 0, 0, 0, 7, 7], [0, 7, 0, 0, 7, 0]):
        result = evaluate_reid_similarity(equal, query_ids=[7], gallery_ids=gallery_ids)
        assert result.mean_ap == pytest.approx((1 / 5 + 2 / 6) / 2)
        assert result.rank(1) == 0


def test_a_gallery_smaller_than_the_curve():
    """reid-strong-baseline#92: a query that keeps fewer rows than `max_rank` is a ValueError.

    Here: the curve is as long as the gallery, and stays at its value for such a query.
    """
    result = evaluate_reid_similarity(
        torch.tensor([[0.9, 0.8, 0.7], [0.9, 0.8, 0.7]]),
        query_ids=[1, 2],
        gallery_ids=[1, 1, 2],
        query_cameras=[1, 1],
        gallery_cameras=[1, 2, 2],
    )

    # Query 1 loses its first row to the camera rule: 2 rows; query 2 keeps all 3, match last.
    np.testing.assert_allclose(result.cmc, [0.5, 0.5, 1.0])


def test_the_curve_never_falls():
    """torchreid, the Cython evaluator: with few valid rows the CMC curve falls from 1.0 to 0.5.

    Here: it never falls, whatever the camera rule removes.
    """
    for seed in range(20):
        rng = np.random.default_rng(seed)
        result = evaluate_reid_similarity(
            rng.standard_normal((5, 8)),
            query_ids=np.arange(5) % 2,
            gallery_ids=np.arange(8) % 2,
            query_cameras=rng.integers(0, 2, 5),
            gallery_cameras=rng.integers(0, 3, 8),
        )
        assert (np.diff(result.cmc) >= 0).all()
        assert result.cmc[-1] == 1


def test_the_length_of_the_curve_does_not_cut_the_precision():
    """daizuozhuo/batch-dropblock-network#14: `max_rank` also cuts the list that AP is taken over.

    Here: AP is of the whole ranking.
    """
    similarity = torch.arange(8, 0, -1).float()[None]
    gallery_ids = [0, 7, 0, 0, 0, 0, 0, 7]
    for max_rank in (1, 3, 50):
        result = evaluate_reid_similarity(
            similarity, query_ids=[7], gallery_ids=gallery_ids, max_rank=max_rank
        )
        assert result.mean_ap == pytest.approx((1 / 2 + 2 / 8) / 2)


def test_the_precision_is_no_trapezoid():
    """layumi/Person_reID_baseline_pytorch#16: AP averages the precisions before and at each match.

    Here: matches at 1, 2, 4 and 7 give the mean of 1/1, 2/2, 3/4 and 4/7.
    """
    want = (1 / 1 + 2 / 2 + 3 / 4 + 4 / 7) / 4
    assert at_ranks({1, 2, 4, 7}, 9).mean_ap == pytest.approx(want)


def test_precision_over_the_whole_gallery():
    """SiddhantKapil/LA-Transformer#8: mAP of the ten nearest images only.

    Here: a match at rank 12 counts with 2/12.
    """
    assert at_ranks({1, 12}, 20).mean_ap == pytest.approx((1 + 2 / 12) / 2)


def test_precision_is_divided_by_all_matches():
    """open-metric-learning#304: map@k was divided by the matches found, so a missed one is no loss.

    Here: by all matches; a peer's `top_k=3` gives 1.0 where the second match is at rank 5.
    """
    scores = torch.tensor([0.5, 0.2, 0.3, 0.4, 0.1])
    relevant = torch.tensor([True, False, False, False, True])

    result = evaluate_retrieval_similarity(scores[None], relevant=[[0, 4]])
    assert result.mean_ap == pytest.approx((1 + 2 / 5) / 2)

    if is_measured("torchmetrics"):
        from torchmetrics.functional.retrieval import retrieval_average_precision

        assert retrieval_average_precision(scores, relevant, top_k=3).item() == 1
        assert retrieval_average_precision(scores, relevant).item() == pytest.approx(0.7)


def test_measures_at_k_follow_k():
    """torchmetrics#1952: recall and NDCG were the same for every `top_k`.

    Here: the values of the definition for each k.
    """
    scores = torch.tensor([[0.1, 0.3, 0.5, 0.2, 0.7]])
    result = evaluate_retrieval_similarity(scores, relevant=[[1, 3]])  # ranks 3 and 4

    assert [result.recall(k) for k in (1, 2, 3, 4)] == [0, 0, 0.5, 1]
    ideal = 1 + 1 / np.log2(3)
    assert result.ndcg(3) == pytest.approx((1 / np.log2(4)) / ideal)
    assert result.ndcg(4) == pytest.approx((1 / np.log2(4) + 1 / np.log2(5)) / ideal)

    if is_measured("torchmetrics"):  # mended since
        from torchmetrics.functional.retrieval import retrieval_recall

        target = torch.tensor([False, True, False, True, False])
        assert retrieval_recall(scores[0], target, top_k=3).item() == 0.5


def test_the_query_is_not_its_own_match():
    """wl-zhao/DIML#2: the query itself counts among its matches, as one that is always ranked last.

    Here: leave-one-out removes it from the list and from the number of matches.
    """
    embeddings = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    result = LeaveOneOutProtocol().evaluate(embeddings, [0, 0, 1, 1])

    assert result.mean_ap == 1
    assert list(result.num_positives) == [1, 1, 1, 1]


def test_queries_without_a_match():
    """thulab/DeepHash#30: queries without a match leave the mean, and nothing states how many.

    Here: no mean includes them, and their number is stated beside it; a peer counts them as 0.
    """
    similarity = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]])
    result = evaluate_reid_similarity(similarity, query_ids=[1, 5, 2], gallery_ids=[1, 2])

    assert (result.num_queries, result.num_valid_queries) == (3, 2)
    assert result.mean_ap == 1

    if is_measured("torchmetrics"):
        from torchmetrics.retrieval import RetrievalMAP

        target = torch.tensor([[True, False], [False, False], [False, True]])
        indexes = torch.arange(3)[:, None].expand(3, 2)
        peer = RetrievalMAP()(similarity.flatten(), target.flatten(), indexes=indexes.flatten())
        assert peer.item() == pytest.approx(2 / 3)


def test_no_query_with_a_match():
    """IRRA, `utils/metrics.py`: a query without a match is an IndexError in mINP.

    Here: if there is no query with a match at all, a sentence; otherwise that query is left out.
    """
    ones = torch.ones(1, 2)
    with pytest.raises(ValueError, match="no query has a match: none of the 1 query"):
        evaluate_reid_similarity(ones, query_ids=[1], gallery_ids=[2, 3])

    both = evaluate_reid_similarity(
        torch.tensor([[0.9, 0.1], [0.9, 0.1]]), query_ids=[1, 2], gallery_ids=[0, 2]
    )
    assert both.mean_inp == pytest.approx(1 / 2)


def test_the_inverse_negative_penalty():
    """ShiqiYu/OpenGait PR#154: mINP was taken from a CMC curve that had been accumulated twice.

    Here: the number of matches divided by the rank of the last one.
    """
    assert at_ranks({1, 2, 4, 7}, 9).mean_inp == pytest.approx(4 / 7)


def test_queries_inside_the_gallery():
    """guxinqian/AP3D#2: without the queries in MARS's gallery 140 of them have no match left.

    Here: with the queries in the gallery the camera rule removes their own copies, and a query
    finds the other cameras' images of the identity, as by brute force.
    """
    rng = np.random.default_rng(4)
    queries = rng.standard_normal((6, 4)).astype(np.float32)
    gallery = np.concatenate([queries, rng.standard_normal((5, 4)).astype(np.float32)])
    ids, cameras = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 0, 1])
    gallery_ids = np.concatenate([ids, [0, 1, 2, 3, 3]])
    gallery_cameras = np.concatenate([cameras, [0, 0, 0, 1, 1]])

    result = evaluate_reid(
        queries,
        gallery,
        query_ids=ids,
        gallery_ids=gallery_ids,
        query_cameras=cameras,
        gallery_cameras=gallery_cameras,
    )
    want = reid_oracle.evaluate(
        reid_oracle.exact(queries, gallery, "cosine"),
        ids,
        gallery_ids,
        [(cameras, gallery_cameras)],
    )

    assert result.num_valid_queries == 6
    np.testing.assert_allclose(result.average_precision, [row[0] for row in want])
    assert result.mean_ap < 1


def test_one_camera_for_all_images():
    """deep-person-reid#207: one camera for all images, and "all query identities do not appear".

    Here: an error that says that the cameras remove every match.
    """
    with pytest.raises(ValueError, match="camera"):
        evaluate_reid_similarity(
            torch.rand(2, 3),
            query_ids=[0, 1],
            gallery_ids=[0, 1, 1],
            query_cameras=[1, 1],
            gallery_cameras=[1, 1, 1],
        )


def test_one_image_for_each_identity():
    """WildlifeDatasets/wildlife-datasets#15: subsets with one image of each identity.

    Here: leave-one-out has no query with a match, and says so instead of scoring 0.
    """
    with pytest.raises(ValueError, match="match"):
        evaluate_reid(torch.eye(4), query_ids=["a", "b", "c", "d"])


def test_the_same_figures_on_every_path():
    """fast-reid PR#153: the compiled evaluator returned another mAP than the Python one.

    Here: the same bits from float32, float64, tensors and arrays.
    """
    sides = random_sides()
    want = evaluate_reid(**sides)

    doubled = {
        name: value.astype(np.float64) if "embeddings" in name else value
        for name, value in sides.items()
    }
    tensors = {name: torch.from_numpy(value) for name, value in sides.items()}
    for other in (doubled, tensors):
        got = evaluate_reid(**other)
        assert got.average_precision.tobytes() == want.average_precision.tobytes()


def test_figures_do_not_depend_on_the_number_of_queries():
    """facebookresearch/faiss#563: distances of a query change with the number of queries.

    Here: a query alone has the average precision that it has among others, to the last bit.
    """
    sides = random_sides(seed=2)
    want = evaluate_reid(**sides)

    alone = []
    for row in range(9):
        one = sides | {
            "query_embeddings": sides["query_embeddings"][row : row + 1],
            "query_ids": sides["query_ids"][row : row + 1],
        }
        alone.append(evaluate_reid(**one).average_precision[0])
    assert alone == list(want.average_precision)


def test_cosine_of_rows_of_any_length():
    """mem0#5959: a cosine search over rows that nobody normalised ranks by the inner product.

    Here: rows of any length have the ranking of their cosine.
    """
    gallery = torch.tensor([[0.1, 0.0], [0.5, 0.5]])
    result = evaluate_reid(
        torch.tensor([[1.0, 0.0]]), gallery, query_ids=["A"], gallery_ids=["A", "B"]
    )
    assert result.rank(1) == 1


def test_the_distance_is_the_one_asked_for():
    """CLIP-ReID, `R1_mAP_eval`: features are normalised also with `FEAT_NORM: 'no'`.

    Here: Euclidean distances of the rows as they are, and a misspelt name is an error.
    """
    query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[9.0, 0.0], [1.0, 0.5]])
    ids = {"query_ids": [1], "gallery_ids": [1, 2]}

    assert evaluate_reid(query, gallery, **ids, distance="cosine").rank(1) == 1
    assert evaluate_reid(query, gallery, **ids, distance="euclidean").rank(1) == 0


def test_rows_that_are_not_numbers():
    """CLIP-ReID, `R1_mAP_eval`: a query of NaN is scored as if it were an image.

    Here: an error that names the rows.
    """
    query = torch.ones(3, 2)
    query[1] = torch.nan
    with pytest.raises(ValueError, match=r"\b1\b"):
        evaluate_reid(query, torch.ones(2, 2), query_ids=[0, 1, 0], gallery_ids=[0, 1])


def test_re_ranking_follows_the_paper():
    """fast-reid#446: k or k + 1 neighbours? Two paths of one project count differently.

    Here: distances of the dense algorithm of the paper's code.
    """
    rng = np.random.default_rng(7)
    centers = rng.standard_normal((4, 6))
    rows = (centers[np.arange(24) % 4] + 0.3 * rng.standard_normal((24, 6))).astype(np.float32)

    want = rerank_oracle.rerank(rows[:6], rows[6:], 5, 3, 0.3)
    got = k_reciprocal_rerank(torch.from_numpy(rows[:6]), torch.from_numpy(rows[6:]), k1=5, k2=3)
    np.testing.assert_allclose(got.numpy(), want, atol=2e-5)


def test_re_ranking_is_used():
    """CLIP-ReID, `processor/processor_clipreid_stage2.py`: `TEST.RE_RANKING` is never passed on.

    Here: the option of a protocol has the figures of the re-ranked distances, not the others.
    """
    sides = random_sides(seed=5)
    queries, gallery = (
        torch.from_numpy(sides[name]) for name in ("query_embeddings", "gallery_embeddings")
    )
    ids = {"query_ids": sides["query_ids"], "gallery_ids": sides["gallery_ids"]}
    cameras = {"query_cameras": np.zeros(9, int), "gallery_cameras": np.ones(30, int)}

    def rerank(queries, gallery):
        return KReciprocalReranker(queries, gallery, k1=4, k2=2)

    plain = Market1501Protocol().evaluate(queries, gallery, **ids, **cameras)
    reranked = Market1501Protocol(rerank=rerank).evaluate(queries, gallery, **ids, **cameras)
    distances = k_reciprocal_rerank(queries, gallery, k1=4, k2=2)
    want = evaluate_reid_similarity(-distances, **ids, **cameras)

    assert reranked.mean_ap == pytest.approx(want.mean_ap)
    assert reranked.mean_ap != plain.mean_ap


def test_fewer_neighbours_are_as_near_as_more():
    """facebookresearch/faiss#808: the first of 10,000 neighbours are not the 100 neighbours.

    Here: among mined negatives of equal cosine any may be named, but the cosines of a shorter list
    are those at the head of a longer one, and the highest that there are.
    """
    features = torch.randint(0, 2, (40, 4), generator=torch.Generator().manual_seed(3)).float()
    features[features.sum(dim=1) == 0] = 1.0
    labels = torch.arange(40) // 4

    unit = features.double() / features.double().norm(dim=1, keepdim=True)
    cosine = (unit @ unit.T).masked_fill(labels[:, None] == labels, -2)
    best = cosine.sort(dim=1, descending=True).values

    for count in (1, 3, 10, 20):
        found = mine_hard_negatives(features, labels, count, max_similarity=None)
        torch.testing.assert_close(cosine.gather(1, found), best[:, :count], atol=1e-6, rtol=0)


def test_a_search_that_finds_too_few():
    """facebookresearch/faiss#2657: a search of inverted lists returns -1 among its indices.

    Here: -1 is documented, only fills the end of a row, and never where a negative exists.
    """
    features = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
    found = mine_hard_negatives(features, torch.tensor([0, 0, 0, 1]), 2)
    assert found.tolist() == [[3, -1], [3, -1], [3, -1], [2, 1]]

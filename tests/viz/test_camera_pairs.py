import numpy as np
import pytest
import torch

from clipreid_kit import evaluate_reid
from clipreid_kit.viz import CameraPairRates, camera_pair_figure, camera_pair_rates


def random_side(rng, count):
    rows = torch.from_numpy(rng.normal(size=(count, 4)))
    return rows, rng.integers(0, 5, count), rng.integers(0, 3, count)


@pytest.mark.parametrize("camera_rule", [True, False])
def test_a_pair_is_the_evaluation_of_its_parts(camera_rule):
    rng = np.random.default_rng(0)
    queries, query_ids, query_cameras = random_side(rng, 30)
    gallery, gallery_ids, gallery_cameras = random_side(rng, 60)
    rates = camera_pair_rates(
        queries,
        gallery,
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        query_cameras=query_cameras,
        gallery_cameras=gallery_cameras,
        camera_rule=camera_rule,
    )

    assert rates.query_cameras == rates.gallery_cameras == ("0", "1", "2")
    for first in range(3):
        for second in range(3):
            if camera_rule and first == second:
                assert np.isnan(rates.rank_1[first, second])
                assert rates.num_queries[first, second] == 0
                continue
            rows, columns = query_cameras == first, gallery_cameras == second
            expected = evaluate_reid(
                queries[rows],
                gallery[columns],
                query_ids=query_ids[rows],
                gallery_ids=gallery_ids[columns],
            )
            assert rates.rank_1[first, second] == expected.rank(1)
            assert rates.mean_ap[first, second] == expected.mean_ap
            assert rates.num_queries[first, second] == expected.num_valid_queries


def test_cameras_are_in_natural_order_and_need_not_meet():
    rates = camera_pair_rates(
        torch.eye(3),
        torch.eye(3),
        query_ids=["a", "b", "c"],
        gallery_ids=["a", "x", "c"],
        query_cameras=[10, 2, 10],
        gallery_cameras=["door", "door", "2"],
    )
    assert rates.query_cameras == ("2", "10")
    assert rates.gallery_cameras == ("2", "door")
    assert rates.num_queries.tolist() == [[0, 0], [1, 1]]


def test_further_rules_count_as_in_the_evaluation():
    own = ["a.jpg", "b.jpg"]
    rates = camera_pair_rates(
        torch.eye(2),
        torch.eye(2),
        query_ids=[0, 0],
        gallery_ids=[0, 0],
        query_cameras=[1, 2],
        gallery_cameras=[1, 2],
        camera_rule=False,
        exclude=[(own, own)],
    )
    assert rates.num_queries.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("measure", ["rank_1", "mean_ap"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_cells_hold_percents(measure, theme):
    rates = CameraPairRates(
        ("1", "$2"),
        ("1",),
        np.array([[0.5], [np.nan]]),
        np.array([[0.25], [np.nan]]),
        np.ones((2, 1), int),
    )
    (axes,) = camera_pair_figure(rates, measure=measure, theme=theme).axes
    expected = "50.0" if measure == "rank_1" else "25.0"
    assert [text.get_text() for text in axes.texts] == [expected, "\N{EN DASH}"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "$2"]


@pytest.mark.parametrize(
    ("values", "shades"),
    [([[0.2, 0.6, 1.0]], [[0, 0.5, 1]]), ([[0.95, 0.9, np.nan]], [[1, 0.75, np.nan]])],
)
def test_the_scale_of_the_shades_is_not_narrow(values, shades):
    values = np.array(values)
    rates = CameraPairRates(("1",), ("1", "2", "3"), values, values / 2, np.ones((1, 3), int))
    np.testing.assert_allclose(rates.shades("rank_1"), shades)


@pytest.mark.unhooked
def test_impossible_arguments_are_explained():
    rates = CameraPairRates((), (), np.zeros((0, 0)), np.zeros((0, 0)), np.zeros((0, 0), int))
    with pytest.raises(ValueError, match="at least one camera on both sides"):
        camera_pair_figure(rates)
    with pytest.raises(ValueError, match="measure to be one of rank_1, mean_ap"):
        camera_pair_figure(rates, measure="mAP")

    ids = {"query_ids": [0], "gallery_ids": [0], "query_cameras": [0], "gallery_cameras": [0]}
    with pytest.raises(ValueError, match="gallery_cameras as 1 ids"):
        camera_pair_rates(torch.ones(1, 2), torch.ones(1, 2), **(ids | {"gallery_cameras": []}))
    with pytest.raises(ValueError, match="at least one query and one gallery image"):
        camera_pair_rates(torch.ones(0, 2), torch.ones(1, 2), **ids)

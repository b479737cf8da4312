from types import SimpleNamespace

import pytest
import torch

from clipreid_kit import evaluate_reid
from clipreid_kit.data import ImageRecord
from clipreid_kit.reports.evaluation import Evaluation
from clipreid_kit.reports.similarities import camera_table, evaluation_histogram, similarity_chart


def evaluation(cameras=3, *, camera_rule=True, seed=0):
    """Five identities before some cameras, as query and gallery."""
    records = []
    for identity in range(5):
        for camera in range(cameras):
            for number in range(2):
                name = f"{identity}_{camera}_{number}.jpg"
                records.append(ImageRecord(name, f"id{identity}", camera=camera))

    query, gallery = records[::2], records[1::2]
    rows = torch.randn(len(records), 6, generator=torch.Generator().manual_seed(seed))
    result = evaluate_reid(
        rows[::2],
        rows[1::2],
        query_ids=[record.identity for record in query],
        gallery_ids=[record.identity for record in gallery],
    )
    return Evaluation(
        {"image_to_image": result}, query, gallery, rows[::2], rows[1::2], None, [], camera_rule
    )


@pytest.mark.parametrize(("camera_rule", "num_positives"), [(True, 5 * 3 * 2), (False, 5 * 3 * 3)])
def test_pairs_are_those_that_the_protocol_ranks(camera_rule, num_positives):
    found = evaluation_histogram(evaluation(camera_rule=camera_rule))
    assert found.positives.sum() == num_positives
    assert found.negatives.sum() == 15 * 12


def test_the_own_image_of_a_query_is_no_pair():
    found = evaluation(camera_rule=False)
    found.gallery, found.gallery_embeddings = found.query, found.query_embeddings
    assert evaluation_histogram(found).positives.sum() == 5 * 3 * 2


def test_a_calibrated_threshold_is_drawn_where_there_is_one():
    calibration = SimpleNamespace(threshold=2.0)
    chart = similarity_chart(evaluation(), calibration)
    assert chart.threshold == ("2.000", 100.0)
    assert "The threshold is the calibrated one. It is reached by 0.0%" in chart.note


def test_otherwise_the_threshold_is_one_of_these_images():
    chart = similarity_chart(evaluation())
    assert "accepts 1% of the pairs of two identities here" in chart.note
    assert 0 < chart.threshold.left <= 100
    assert chart.num_positives == 30
    assert 2 <= len(chart.ticks) <= 7
    assert chart.positives.startswith("M0.00 100L")
    assert chart.positives.endswith(" 100Z")


def test_a_chart_needs_pairs_of_both_kinds():
    found = evaluation()
    found.query, found.query_embeddings = found.query[:1], found.query_embeddings[:1]
    found.gallery, found.gallery_embeddings = found.gallery[:3], found.gallery_embeddings[:3]
    assert similarity_chart(found) is None


def test_the_table_has_the_cameras_of_the_most_queries():
    found = evaluation(cameras=14)
    found.query, found.query_embeddings = found.query[4:], found.query_embeddings[4:]
    table = camera_table(found)
    # cameras 0 to 3 have lost a query
    assert table.rates.query_cameras == tuple(str(camera) for camera in [0, 1, *range(4, 14)])
    assert table.note == "The 12 cameras of the most queries, of 14."


def test_one_camera_makes_no_table():
    assert camera_table(evaluation(cameras=1, camera_rule=False)) is None
    found = evaluation()
    found.gallery[0] = ImageRecord("a.jpg", "id0")
    assert camera_table(found) is None

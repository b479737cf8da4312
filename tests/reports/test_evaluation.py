import torch

from clipreid_kit.data import ImageRecord
from clipreid_kit.reports.evaluation import Evaluation


def evaluation(query, gallery, *, camera_rule):
    return Evaluation(
        results={},
        query=query,
        gallery=gallery,
        query_embeddings=torch.zeros(len(query), 2),
        gallery_embeddings=torch.zeros(len(gallery), 2),
        text_embeddings=None,
        captions=[],
        camera_rule=camera_rule,
    )


def test_the_camera_rule_excludes_the_identitys_images_by_the_querys_camera():
    gallery = [ImageRecord(f"g{row}.png", row % 2, camera=row // 2) for row in range(4)]
    query = [ImageRecord("q.png", 0, camera=0), ImageRecord("g3.png", 1, camera=1)]
    assert evaluation(query, gallery, camera_rule=True).excluded_rows(0) == [0]
    assert evaluation(query, gallery, camera_rule=True).excluded_rows(1) == [3]
    assert evaluation(query, gallery, camera_rule=False).excluded_rows(0) == []


def test_a_query_is_never_its_own_match():
    records = [ImageRecord(f"{row}.png", 0) for row in range(3)]
    assert evaluation(records, records, camera_rule=False).excluded_rows(1) == [1]

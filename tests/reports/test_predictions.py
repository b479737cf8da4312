import json

import pytest
import torch

from clipreid_kit.data import ImageRecord
from clipreid_kit.reports.evaluation import Evaluation
from clipreid_kit.reports.predictions import write_predictions


def evaluation():
    return Evaluation(
        results={},
        query=[ImageRecord("q.png", 0, camera=0)],
        gallery=[ImageRecord(f"g{row}.png", row % 2, camera=row // 2) for row in range(4)],
        query_embeddings=torch.tensor([[1.0, 0.0]]),
        gallery_embeddings=torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.5, 0.5]]),
        text_embeddings=torch.tensor([[0.0, 2.0]]),
        captions=[(0, "A sentence.")],
        camera_rule=True,
    )


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("distance", "similarity"), [("cosine", 0.9938837), ("euclidean", -0.1414214)]
)
def test_the_protocol_decides_which_images_may_be_found(tmp_path, distance, similarity):
    write_predictions(tmp_path, evaluation(), 2, distance)
    (line,) = lines(tmp_path / "predictions.jsonl")
    assert line["query"] == "q.png"
    # g0 has the query's identity and camera
    assert [found["path"] for found in line["found"]] == ["g1.png", "g3.png"]
    assert [found["identity"] for found in line["found"]] == [1, 1]
    assert line["found"][0]["similarity"] == pytest.approx(similarity, abs=1e-6)


def test_a_caption_may_find_every_image(tmp_path):
    write_predictions(tmp_path, evaluation(), 10, "euclidean")
    (line,) = lines(tmp_path / "predictions_text.jsonl")
    assert line["query"] == "A sentence."
    assert [found["path"] for found in line["found"]] == ["g2.png", "g3.png", "g1.png", "g0.png"]
    assert line["found"][0]["similarity"] == pytest.approx(1.0)  # captions compare by cosine


def test_without_texts_there_is_no_file_of_texts(tmp_path):
    found = evaluation()
    found.text_embeddings = None
    write_predictions(tmp_path, found, 2, "cosine")
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.jsonl"]

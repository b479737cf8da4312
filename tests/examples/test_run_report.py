"""The page about a run, from what the trainer hands over."""

import json

import pytest
import torch
from PIL import Image
from runs import numbers, retrieval_numbers, write_run

from clipreid_kit import evaluate_reid
from clipreid_kit.data import ImageRecord
from examples.report import run_report
from examples.report.evaluation import Evaluation


def evaluation(folder, seed):
    records = []
    for index in range(6):
        path = folder / f"{index}.png"
        Image.new("RGB", (16, 32), (40 * index, 0, 0)).save(path)
        records.append(ImageRecord(str(path), index % 3, camera=index // 3))
    embeddings = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
    ids = [record.identity for record in records]
    result = evaluate_reid(embeddings[:3], embeddings[3:], query_ids=ids[:3], gallery_ids=ids[3:])
    captions = {identity: f"Sentence {identity}" for identity in range(3)}
    return Evaluation(
        {"image_to_image": result, "text_to_image": result},
        records[:3],
        records[3:],
        embeddings[:3],
        embeddings[3:],
        embeddings[:3],
        captions,
        camera_rule=True,
    )


def report(tmp_path, monkeypatch, rows, *, task="image_to_image"):
    """What is drawn of the training, and the page."""
    drawn = []
    draw = run_report.training_figure
    monkeypatch.setattr(
        run_report,
        "training_figure",
        lambda rows, **options: [drawn.append(options), draw(rows, **options)][1],
    )
    run = write_run(tmp_path / "run")
    (run / "environment.json").write_text("{}")
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_report.write_run_report(
        run,
        title="run: joint",
        note="A note.",
        settings={"stage": "joint", "loss": {"id": 1.0}},
        before=evaluation(tmp_path, 0),
        after=evaluation(tmp_path, 1),
        validation_task=task,
    )
    return drawn, (run / "report.html").read_text()


ROWS = [
    {"epoch": 1, "loss": 2.0, "best": False},
    {"epoch": 2, "loss": 1.5, "validation": {"image_to_image": numbers(0.5)}, "best": True},
    {"epoch": 3, "loss": 1.2, "best": False},
]


def test_the_best_validated_epoch_is_marked(tmp_path, monkeypatch):
    drawn, page = report(tmp_path, monkeypatch, ROWS)
    assert drawn[0]["best_epoch"] == 2
    assert list(drawn[0]["metric_keys"].values()) == ["Rank-1", "mAP"]
    assert "Epoch 2 was best on validation identities" in page
    assert "Sentence 1" in page


def test_without_validation_the_last_epoch_is_shown(tmp_path, monkeypatch):
    drawn, page = report(
        tmp_path, monkeypatch, [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "best": True}]
    )
    assert (drawn[0]["best_epoch"], drawn[0]["metric_keys"]) == (2, {})
    assert "as none was validated" in page


@pytest.mark.parametrize("rows", [[], [{"epoch": 1, "loss": 2.0}]])
def test_few_rows(tmp_path, monkeypatch, rows):
    drawn, _ = report(tmp_path, monkeypatch, rows)
    assert len(drawn) == 4 * len(rows)  # light and dark, wide and narrow


def test_the_task_of_the_recipe_is_drawn(tmp_path, monkeypatch):
    both = {"image_to_image": numbers(0.5), "text_to_image": retrieval_numbers(0.3)}
    row = {"epoch": 1, "loss": 2.0, "validation": both, "best": True}
    assert run_report.validation_of(row, "text_to_image") == retrieval_numbers(0.3)
    drawn, _ = report(tmp_path, monkeypatch, [row], task="text_to_image")
    assert list(drawn[0]["metric_keys"].values()) == ["Rank-1", "mAP"]

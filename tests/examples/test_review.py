"""Faults that a review found in the trainer, each with the run that showed it."""

import json

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny import tiny_recipe

from clipreid_kit.data import ImageRecord
from examples.report.predictions import write_best
from examples.trainer.__main__ import run
from examples.trainer.data import load_records


def test_evaluation_is_in_full_precision(tmp_path):
    """A checkpoint that is tested by itself has the numbers of the run that made it, whatever it was trained in."""
    run(tiny_recipe(tmp_path, "precision=bf16", "track.console=nothing"), tmp_path / "run")
    AcceleratorState._reset_state(reset_partial_state=True)
    alone = [
        "stage=zero_shot",
        f"init_from={tmp_path / 'run'}",
        "track.console=nothing",
        "evaluate.predictions=3",
    ]
    run(tiny_recipe(tmp_path, *alone), tmp_path / "alone")
    results = [
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("run", "alone")
    ]
    assert results[0]["after"] == results[1]["before"]


def test_validation_shares_no_identity_with_the_test(tmp_path, monkeypatch):
    recipe = tiny_recipe(tmp_path)
    records, _ = load_records(recipe, tmp_path / "a")
    test = next(record for record in records if record.split == "query")
    leaked = [*records, ImageRecord(test.path, test.identity, split="val", caption="a leak")]
    monkeypatch.setattr("examples.trainer.data._read", lambda *_, **__: leaked)
    with pytest.raises(ValueError, match="training and test share 1 identity"):
        load_records(recipe, tmp_path / "a")


def test_predictions_leave_out_what_the_protocol_does(tmp_path):
    gallery = [ImageRecord(f"g{i}.png", i % 2, camera=i // 2) for i in range(4)]
    query = [ImageRecord("q.png", 0, camera=0)]
    rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.5, 0.5]])
    for metric, ahead in (("cosine", 0.9938837), ("euclidean", -0.1414214)):
        path = tmp_path / f"{metric}.jsonl"
        write_best(
            path, query, torch.tensor([[1.0, 0.0]]), gallery, rows, 2, metric, camera_rule=True
        )
        found = json.loads(path.read_text())["found"]
        assert [one["path"] for one in found] == [
            "g1.png",
            "g3.png",
        ]  # g0 is of the query's identity and camera
        assert found[0]["similarity"] == pytest.approx(ahead, abs=1e-6)

"""Faults that a review found in the trainer, each with the run that showed it."""

import json

import pytest
from accelerate.state import AcceleratorState
from tiny import tiny_recipe

from clipreid_kit.data import ImageRecord
from examples.trainer.records import load_records
from examples.trainer.run import run


@pytest.mark.slow
def test_evaluation_is_in_full_precision(tmp_path):
    """A checkpoint evaluated alone has the numbers of its run, whatever its precision."""
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
    monkeypatch.setattr("examples.trainer.records.read_records", lambda *_, **__: leaked)
    with pytest.raises(ValueError, match="training and test share 1 identity"):
        load_records(recipe, tmp_path / "a")

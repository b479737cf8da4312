"""Rows of the tables about runs, and their text."""

import json
import math
import statistics

import pytest
from run_folders import both, write_run

from clipreid_kit.reports.runs import find_runs
from clipreid_kit.reports.tables import (
    column_names,
    csv_text,
    evaluation_rows,
    markdown_table,
    mean_and_std,
    split_rows,
    training_markdown,
    training_rows,
    version_rows,
)


def evaluation_by_run(folder):
    return {row["version"]: row for row in evaluation_rows(find_runs([folder]))}


def test_evaluation_has_one_row_per_run(folder):
    rows = evaluation_by_run(folder)
    assert list(rows) == ["clip", "killed", "v2/seed0", "v2/seed1", "v2/seed2", "zero"]

    row = rows["v2/seed1"]
    about = {name: row[name] for name in ("stage", "seed", "status", "best_epoch", "remarks")}
    assert about == {
        "stage": "joint",
        "seed": 1,
        "status": "complete",
        "best_epoch": 2,
        "remarks": "Two | v.",
    }


def test_evaluation_holds_the_test_and_not_the_validation(folder):
    row = evaluation_by_run(folder)["v2/seed1"]
    assert row["query_gallery_R1_fraction"] == 0.75
    assert row["before_query_gallery_mAP_fraction"] == pytest.approx(0.15)


def test_evaluation_has_every_split_with_mean_and_spread(folder):
    row = evaluation_by_run(folder)["v2/seed1"]
    splits = [row[f"split{number}_R5_fraction"] for number in (1, 2)]
    assert splits == pytest.approx([0.85, 0.95])
    assert row["final_R5_fraction"] == pytest.approx(statistics.fmean(splits))
    assert row["final_R5_std_fraction"] == pytest.approx(statistics.stdev(splits))
    assert row["before_final_R1_fraction"] == pytest.approx(0.25)
    assert "before_split1_R1_fraction" not in row
    assert row["distractors_final_mAP_fraction"] == pytest.approx(0.275)
    assert row["distractors_final_mAP_std_fraction"] is None  # of one split


def test_evaluation_of_runs_without_training_or_end(folder):
    rows = evaluation_by_run(folder)
    assert rows["zero"]["query_gallery_R1_fraction"] == 0.25
    assert rows["zero"]["text_to_image_R10_fraction"] == pytest.approx(0.4)
    assert not [name for name in rows["zero"] if name.startswith("before_")]
    assert rows["killed"]["status"] == "unfinished, 1 epoch done"
    assert not [name for name in rows["killed"] if "fraction" in name]


def test_split_rows_have_each_split_below_its_mean(folder):
    rows = [
        row
        for row in split_rows(find_runs([folder / "v2" / "seed0"]))
        if row["task"].endswith(".splits")
    ]
    rates = {row["moment"]: row["R1_fraction"] for row in rows}
    assert list(rates) == [
        "before",
        "before, split 1",
        "before, split 2",
        "after",
        "after, split 1",
        "after, split 2",
    ]
    assert list(rates.values()) == pytest.approx([0.25, 0.2, 0.3, 0.75, 0.7, 0.8])


def test_version_rows_are_means_over_seeds(folder):
    rows = version_rows(find_runs([folder]))
    before, after = (
        row for row in rows if row["version"] == "v2" and row["task"] == "image_to_image"
    )
    assert (before["moment"], after["moment"]) == ("before", "after")
    assert (before["num_runs"], after["num_runs"]) == (3, 3)
    assert after["R1_fraction"] == pytest.approx(0.75)
    assert after["R1_std_fraction"] == pytest.approx(0.05)  # of 0.7, 0.75 and 0.8
    assert before["R1_std_fraction"] == 0


def test_version_rows_of_a_single_run_have_no_spread(folder):
    rows = version_rows(find_runs([folder]))
    row = next(row for row in rows if row["version"] == "zero")
    assert (row["moment"], row["R1_std_fraction"]) == ("zero_shot", None)


def test_a_killed_seed_counts_in_no_mean(tmp_path):
    write_run(tmp_path / "v1-seed0", rates=[0.5], results=both(0.1, 0.5))
    write_run(tmp_path / "v1-seed1", seed=1, rates=[0.9])
    rows = version_rows(find_runs([tmp_path]))
    assert [(row["num_runs"], row["R1_fraction"]) for row in rows] == [(1, 0.1), (1, 0.5)]


def test_training_has_the_prompt_phase_first(folder):
    rows = [row for row in training_rows(find_runs([folder])) if row["version"] == "clip"]
    names = ("phase", "epoch", "prompt_loss", "loss")
    assert [tuple(row.get(name) for name in names) for row in rows] == [
        ("prompt", 1, 3.0, None),
        ("prompt", 2, 1.5, None),
        ("prompt", 3, 1.0, None),
        ("main", 1, None, 2.0),
        ("main", 2, None, 1.0),
    ]
    assert [row.get("val_R1_fraction") for row in rows] == [None, None, None, None, 0.5]


def test_training_has_every_term_and_the_rate(folder):
    rows = training_rows(find_runs([folder]))
    last = [row for row in rows if row["version"] == "clip"][-1]
    assert (last["loss_id"], last["loss_triplet"], last["lr"]) == (0.6, 0.4, 0.0005)
    assert not {"loss_gradient_norm", "loss_seconds", "loss_best"} & set(last)


def test_training_marks_the_best_epoch_of_each_run(folder):
    rows = training_rows(find_runs([folder]))
    best = {(row["version"], row["epoch"]) for row in rows if row["is_best"]}
    seeds = {(f"v2/seed{seed}", 2) for seed in range(3)}
    assert best == {("clip", 2), ("killed", 1)} | seeds

    text = training_markdown(rows)
    assert text.count("| best |") == 5
    assert "| 50.00      |" in text


def test_a_term_may_be_missing_or_not_a_number(tmp_path):
    path = write_run(tmp_path / "run", rates=[0.5, 0.6], results=both(0.1, 0.5))
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    rows[0]["id"] = math.nan
    del rows[1]["triplet"]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    first, second = training_rows(find_runs([tmp_path]))
    assert math.isnan(first["loss_id"])
    assert "loss_triplet" not in second
    assert second["loss_id"] == pytest.approx(0.6)


def test_mean_and_std_are_of_the_finite_values():
    assert mean_and_std([0.25, None, 0.75, math.nan]) == (0.5, pytest.approx(0.125**0.5))
    assert mean_and_std([0.25]) == (0.25, None)
    assert mean_and_std([None]) == (None, None)


def test_csv_has_every_column_where_its_rows_have_it():
    rows = [{"a": 1, "c": 2}, {"a": 1, "b": None, "c": 3}]
    assert column_names(rows) == ["a", "b", "c"]
    assert csv_text(rows) == "a,b,c\n1,,2\n1,,3\n"


def test_markdown_is_aligned_and_escaped():
    lines = markdown_table(["a", "b"], [["x|y\nz", ""]]).splitlines()
    assert lines == ["| a      | b   |", "| ------ | --- |", r"| x\|y z |     |"]

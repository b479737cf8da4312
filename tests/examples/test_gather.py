"""Runs become tables and pictures: finished ones, killed ones, several seeds, splits, damage."""

import csv
import io
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from runs import both, numbers, retrieval_numbers, split_numbers, write_run

from examples.report.gather import gather, main
from examples.report.markdown import markdown, percent, title
from examples.report.runs import distinct_names, find_runs, means, natural, rate, validation_of
from examples.report.tables import csv_text, evaluation_rows, group_rows, groups, training_rows

REPOSITORY = Path(__file__).parents[2]


def table(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


@pytest.fixture
def folder(tmp_path):
    """A zero-shot run, a version with three seeds and splits, one with a prompt phase, and a killed run."""
    here = tmp_path / "runs"
    tasks = {"image_to_image": numbers(0.25), "text_to_image": retrieval_numbers(0.2)}
    write_run(here / "zero", stage="zero_shot", results={"before": tasks}, note="As it comes.")
    for seed, value in enumerate((0.7, 0.75, 0.8)):
        results = both(0.25, value)
        results["before"]["image_to_image.splits"] = split_numbers([0.2, 0.3])
        results["after"]["image_to_image.splits"] = split_numbers([value, value + 0.1])
        results["after"]["image_to_image.distractors"] = split_numbers([value / 2])
        write_run(
            here / "v2" / f"seed{seed}",
            seed=seed,
            rates=[0.5, value - 0.1, 0.4],
            results=results,
            note="Two | v.",
        )
    write_run(
        here / "clip", stage="clip_reid", rates=[None, 0.5], prompt=3, results=both(0.25, 0.6)
    )
    write_run(here / "killed", rates=[0.3], lr=7.0)
    return here


def test_main_writes_tables_and_pictures_and_prints_the_tables(folder, tmp_path, capsys):
    assert main([str(folder), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "| killed   | joint     | 0    | unfinished, 1 epoch done | 1          |" in printed
    assert "75.00 ± 5.00" in printed
    assert printed.endswith(f"5 of 6 runs complete. 6 tables and 16 pictures: {tmp_path / 'out'}\n")
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    tasks = (
        "image_to_image",
        "image_to_image_splits",
        "image_to_image_distractors",
        "text_to_image",
    )
    expected = {
        f"{name}.{kind}"
        for name in ("evaluation", "training", "versions")
        for kind in ("csv", "md")
    }
    expected |= {f"{task}_{measure}.png" for task in tasks for measure in ("rank_1", "map")}
    expected |= {"rank_1_by_epoch.png", "map_by_epoch.png"}
    runs = ("clip", "clip_prompt", "killed", "v2__seed0", "v2__seed1", "v2__seed2")
    assert found == expected | {f"training/{run}.png" for run in runs}
    for path in (tmp_path / "out").rglob("*.png"):
        pixels = Image.open(path).convert("L")
        assert min(pixels.size) > 200
        assert len(pixels.getcolors()) > 20  # something was drawn


def test_evaluation_has_one_row_a_run_with_the_best_checkpoints_test_figures(folder):
    rows = {row["version"]: row for row in evaluation_rows(find_runs([folder]))}
    assert list(rows) == ["clip", "killed", "v2/seed0", "v2/seed1", "v2/seed2", "zero"]
    row = rows["v2/seed1"]
    assert (row["stage"], row["seed"], row["status"], row["best_epoch"]) == (
        "joint",
        1,
        "complete",
        2,
    )
    assert row["remarks"] == "Two | v."
    assert (
        row["query_gallery_R1_fraction"] == 0.75
    )  # the test, and neither the last nor the best validation
    assert row["before_query_gallery_mAP_fraction"] == pytest.approx(0.15)
    splits = [row[f"split{i}_R5_fraction"] for i in (1, 2)]
    assert splits == pytest.approx([0.85, 0.95])
    assert row["final_R5_fraction"] == pytest.approx(statistics.fmean(splits))
    assert row["final_R5_std_fraction"] == pytest.approx(statistics.stdev(splits))
    assert row["before_final_R1_fraction"] == pytest.approx(0.25)
    assert row["distractors_final_mAP_fraction"] == pytest.approx(0.275)
    assert row["distractors_final_mAP_std_fraction"] is None  # of one split
    assert rows["zero"]["query_gallery_R1_fraction"] == 0.25
    assert rows["zero"]["text_to_image_R10_fraction"] == pytest.approx(0.4)
    assert not [key for key in rows["zero"] if key.startswith("before_")]
    assert rows["killed"]["status"] == "unfinished, 1 epoch done"
    assert not [key for key in rows["killed"] if "fraction" in key]


def test_training_has_one_row_an_epoch_with_every_term(folder, tmp_path):
    gather([folder], tmp_path / "out")
    rows = table(tmp_path / "out" / "training.csv")
    clip = [row for row in rows if row["version"] == "clip"]
    assert [(row["phase"], row["epoch"], row["prompt_loss"], row["loss"]) for row in clip] == [
        ("prompt", "1", "3.0", ""),
        ("prompt", "2", "1.5", ""),
        ("prompt", "3", "1.0", ""),
        ("main", "1", "", "2.0"),
        ("main", "2", "", "1.0"),
    ]
    assert [row["val_R1_fraction"] for row in clip] == ["", "", "", "", "0.5"]
    assert (clip[-1]["loss_id"], clip[-1]["loss_triplet"], clip[-1]["lr"]) == (
        "0.6",
        "0.4",
        "0.0005",
    )
    assert not {"loss_gradient_norm", "loss_seconds", "loss_best"} & set(clip[0])
    best = {(row["version"], row["epoch"]) for row in rows if row["is_best"] == "True"}
    assert best == {("clip", "2"), ("killed", "1"), *((f"v2/seed{seed}", "2") for seed in range(3))}
    text = (tmp_path / "out" / "training.md").read_text()
    assert "| 50.00      |" in text


def test_seeds_of_one_recipe_become_one_version(folder):
    runs = find_runs([folder.parent])
    assert {name: len(members) for name, members in groups(runs).items()} == {
        "clip": 1, "killed": 1, "v2": 3, "zero": 1,
    }  # fmt: skip
    rows = [
        row for row in group_rows(runs) if row["num_runs"] == 3 and row["task"] == "image_to_image"
    ]
    before, after = rows
    assert (before["moment"], after["moment"]) == ("before", "after")
    assert after["R1_fraction"] == pytest.approx(0.75)
    assert after["R1_std_fraction"] == pytest.approx(0.05)  # of seeds 0.7, 0.75, 0.8
    assert before["R1_std_fraction"] == 0
    alone = next(row for row in group_rows(runs) if row["version"] == "zero")
    assert (alone["moment"], alone["R1_std_fraction"]) == ("zero_shot", None)


def test_versions_are_named_after_what_their_runs_share(tmp_path):
    for name in ("v1-seed0", "v1-seed10", "v2_0", "v2_1", "v10"):
        lr = {"v1": 1.0, "v2": 2.0, "v10": 10.0}[name.split("-")[0].split("_")[0]]
        write_run(tmp_path / name, seed=len(name), lr=lr, rates=[0.5], results=both(0.1, 0.5))
    assert list(groups(find_runs([tmp_path]))) == ["v1", "v2", "v10"]


def test_a_seed_that_goes_on_from_its_own_is_the_same_version(tmp_path):
    for seed in (0, 1):
        path = write_run(
            tmp_path / f"v3-seed{seed}", seed=seed, rates=[0.5], results=both(0.1, 0.5)
        )
        recipe = json.loads((path / "recipe.json").read_text()) | {
            "init_from": f"runs/v2-seed{seed}"
        }
        (path / "recipe.json").write_text(json.dumps(recipe | {"track": {"console": f"{seed}"}}))
    write_run(tmp_path / "fresh", rates=[0.5], results=both(0.1, 0.5))
    assert list(groups(find_runs([tmp_path]))) == ["fresh", "v3"]


def test_runs_of_a_comparison_are_versions_with_spread(tmp_path):
    """As python -m examples.compare names them: each seed begins with the weights of its own."""
    for version, source in (("joint_v2", "pretrain"), ("joint_v3", "joint_v2")):
        for seed in (0, 1, 2):
            path = write_run(
                tmp_path / f"{version}-{seed}",
                seed=seed,
                rates=[0.5],
                results=both(0.1, 0.5 + seed / 10),
            )
            recipe = json.loads((path / "recipe.json").read_text()) | {
                "init_from": f"runs/{source}-{seed}"
            }
            (path / "recipe.json").write_text(json.dumps(recipe))
    found = groups(find_runs([tmp_path]))
    assert {name: len(members) for name, members in found.items()} == {"joint_v2": 3, "joint_v3": 3}


def test_seeds_that_go_on_from_one_run_are_one_version(tmp_path):
    for version, source in (
        ("joint", "runs/pretrain-0"),
        ("other", "runs/pretrain-1"),
        ("hub", "hub/ViT-B-16-2"),
    ):
        for seed in (0, 1, 2):
            path = write_run(
                tmp_path / f"{version}-{seed}", seed=seed, rates=[0.5], results=both(0.1, 0.5)
            )
            recipe = json.loads((path / "recipe.json").read_text()) | {"init_from": source}
            (path / "recipe.json").write_text(json.dumps(recipe))
    found = groups(find_runs([tmp_path]))
    assert {name: len(members) for name, members in found.items()} == {
        "hub": 3,
        "joint": 3,
        "other": 3,
    }


def test_a_killed_seed_counts_in_no_mean(tmp_path):
    write_run(tmp_path / "v1-seed0", rates=[0.5], results=both(0.1, 0.5))
    write_run(tmp_path / "v1-seed1", seed=1, rates=[0.9])
    rows = group_rows(find_runs([tmp_path]))
    assert [(row["num_runs"], row["R1_fraction"]) for row in rows] == [(1, 0.1), (1, 0.5)]


def test_runs_of_one_name_are_told_apart_by_their_path(tmp_path):
    for version in ("a", "b"):
        write_run(tmp_path / version / "long", rates=[0.5], results=both(0.1, 0.5), note=version)
    assert [run.name for run in find_runs([tmp_path])] == ["a/long", "b/long"]
    assert distinct_names([Path("/x/a/s"), Path("/y/a/s"), Path("/y/b/t")]) == [
        "x/a/s",
        "y/a/s",
        "t",
    ]
    assert distinct_names([Path("/x/v1/seed0"), Path("/x/v2/1"), Path("/x/t")]) == [
        "v1/seed0",
        "v2/1",
        "t",
    ]


def test_a_run_that_is_given_twice_counts_once(folder):
    assert len(find_runs([folder, folder / "zero", folder / ".." / "runs"])) == 6


def test_what_lies_inside_a_run_is_no_run(tmp_path):
    write_run(tmp_path / "a", rates=[0.5], results=both(0.1, 0.5))
    write_run(tmp_path / "a" / "data" / "other")
    assert [run.name for run in find_runs([tmp_path])] == ["a"]


def test_runs_without_an_epoch_or_validation_are_listed(tmp_path, capsys):
    write_run(tmp_path / "started")
    write_run(tmp_path / "unvalidated", rates=[None, None], results=both(0.1, 0.5))
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "unfinished, 0 epochs done" in printed
    assert not (tmp_path / "out" / "rank_1_by_epoch.png").exists()
    assert (tmp_path / "out" / "training" / "unvalidated.png").exists()


def test_only_killed_runs_still_make_tables(tmp_path):
    write_run(tmp_path / "killed", rates=[0.5])
    assert "0 of 1 runs complete" in gather([tmp_path], tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("results.json", '{"before": {', r"results\.json \(Expecting"),
        ("results.json", "[]", r"results\.json \(no mapping\)"),
        ("results.json", '{"before": 1}', r"results\.json \(no mapping\)"),
        (
            "results.json",
            '{"before": {"image_to_image": 1}}',
            r"results\.json \(no figures under 'image_to_image'\)",
        ),
        ("recipe.json", "", r"recipe\.json \(Expecting"),
        ("metrics.jsonl", '{"epoch": 1}\n{"epo', r"metrics\.jsonl, line 2 \("),
        ("metrics.jsonl", '{"loss": 1}\n', r"metrics\.jsonl, line 1 \(no row of an epoch\)"),
        ("metrics.jsonl", b"\xff", r"metrics\.jsonl \('utf-8'"),
    ],
)
def test_damaged_files_are_named(folder, tmp_path, file, text, words):
    (folder / "zero" / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(
        ValueError, match=rf"expected whole JSON files, got 1 damaged: .*zero.{words}"
    ):
        gather([folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_damaged_files_are_in_one_error(folder, capsys):
    for run in ("zero", "clip"):
        (folder / run / "results.json").write_text("{")
    assert main([str(folder)]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: expected whole JSON files, got 2 damaged: ")
    assert printed.count("\n") == 1
    assert "zero" in printed
    assert "clip" in printed


def test_folders_without_runs_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing: expected runs .*, got no such folder"):
        find_runs([tmp_path / "nothing"])
    with pytest.raises(
        ValueError,
        match=r"expected runs \(folders with a recipe.json\) in it or below, got none there",
    ):
        find_runs([tmp_path])


def test_the_command_is_that_of_the_trainer(folder, tmp_path):
    command = [
        sys.executable,
        "-m",
        "examples.trainer.report",
        str(folder / "killed"),
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "unfinished, 1 epoch done" in done.stdout


def test_validation_is_that_of_the_task():
    row = {
        "validation": {
            "loss": 1.5,
            "text_to_image": retrieval_numbers(0.3),
            "image_to_image": numbers(0.5),
        }
    }
    assert rate(validation_of(row, "image_to_image"), "R1") == 0.5
    assert rate(validation_of(row, "text_to_image"), "R1") == 0.3
    assert rate(validation_of(row, "image_to_text"), "R1") == 0.3  # the first
    splits = {
        "validation": {
            "text_to_image": numbers(0.1),
            "image_to_image.splits": split_numbers([0.4, 0.6]),
        }
    }
    assert rate(validation_of(splits, "image_to_image"), "R1") == pytest.approx(0.5)
    for nothing in ({}, {"validation": None}, {"validation": {}}, {"validation": {"loss": 1.0}}):
        assert validation_of(nothing, "image_to_image") == {}
        assert rate({}, "mAP") is None
    assert means(numbers(0.5)) == numbers(0.5)


def test_a_term_may_not_be_a_number_everywhere(tmp_path):
    path = write_run(tmp_path / "run", rates=[0.5, 0.6], results=both(0.1, 0.5))
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    rows[0]["id"] = math.nan
    del rows[1]["triplet"]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    gather([tmp_path], tmp_path / "out")
    first, second = table(tmp_path / "out" / "training.csv")
    assert (first["loss_id"], second["loss_triplet"]) == ("nan", "")
    assert training_rows(find_runs([tmp_path]))[1]["loss_id"] == pytest.approx(0.6)


def test_small_things():
    assert percent(0.12345) == "12.35"
    assert percent(0.5, 0.012) == "50.00 ± 1.20"
    assert (percent(None), percent(math.nan)) == ("-", "-")
    assert title("image_to_image") == "Image to image, query and gallery"
    assert title("image_to_image.leave_one_out") == "Image to image, leave one out"
    assert title("text_to_image") == "Text to image"
    assert sorted(["v10", "v2", "10", "a"], key=natural) == ["10", "a", "v2", "v10"]
    assert csv_text([{"a": 1, "c": 2}, {"a": 1, "b": None, "c": 3}]) == "a,b,c\n1,,2\n1,,3\n"
    lines = markdown(["a", "b"], [["x|y\nz"]]).splitlines()
    assert lines == ["| a      | b   |", "| ------ | --- |", r"| x\|y z |     |"]

"""Runs are read from their folders, by names that tell them apart, and damage is named."""

import json
from pathlib import Path

import pytest
from run_folders import both, write_run

from clipreid_kit.reports.runs import distinct_names, find_runs, natural_key


def test_runs_of_one_name_are_told_apart_by_their_path(tmp_path):
    for version in ("a", "b"):
        write_run(tmp_path / version / "long", rates=[0.5], results=both(0.1, 0.5), note=version)
    assert [run.name for run in find_runs([tmp_path])] == ["a/long", "b/long"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/x/a/s", "/y/a/s", "/y/b/t"], ["x/a/s", "y/a/s", "t"]),
        (["/x/v1/seed0", "/x/v2/1", "/x/t"], ["v1/seed0", "v2/1", "t"]),
        (["/x/v1/2026-02-01T09-30-00", "/x/t"], ["v1/2026-02-01T09-30-00", "t"]),
    ],
)
def test_names_are_as_short_as_they_can_be(paths, names):
    assert distinct_names([Path(path) for path in paths]) == names


def test_version_10_comes_after_version_2():
    assert sorted(["v10", "v2", "10", "a"], key=natural_key) == ["10", "a", "v2", "v10"]


def test_a_run_that_is_given_twice_counts_once(folder):
    assert len(find_runs([folder, folder / "zero", folder / ".." / "runs"])) == 6


def test_folders_inside_a_run_are_no_runs(tmp_path):
    write_run(tmp_path / "a", rates=[0.5], results=both(0.1, 0.5))
    write_run(tmp_path / "a" / "data" / "other")
    assert [run.name for run in find_runs([tmp_path])] == ["a"]


def test_results_are_by_moment(folder):
    moments = {run.name: list(run.results) for run in find_runs([folder])}
    assert moments["zero"] == ["zero_shot"]
    assert moments["clip"] == ["before", "after"]
    assert moments["killed"] == []


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("results.json", b'{"before": {', r"results\.json \(Expecting"),
        ("results.json", b"[]", r"results\.json \(not a JSON object\)"),
        ("results.json", b'{"before": 1}', r"results\.json \(tasks without numbers\)"),
        (
            "results.json",
            b'{"before": {"image_to_image": 1}}',
            r"results\.json \(tasks without numbers\)",
        ),
        ("recipe.json", b"", r"recipe\.json \(Expecting"),
        ("recipe.json", b"[" * 100_000, r"recipe\.json \(it is nested more than"),
        ("metrics.jsonl", b'{"epoch": 1}\n{"epo', r"metrics\.jsonl, line 2 \(Unterminated"),
        ("metrics.jsonl", b"3\n", r"metrics\.jsonl, line 1 \(not the row of an epoch\)"),
        ("metrics.jsonl", b'{"loss": 1}\n', r"metrics\.jsonl, line 1 \(not the row of an epoch\)"),
        ("metrics.jsonl", b"\xff", r"metrics\.jsonl, line 1 \('utf-8'"),
    ],
)
def test_damaged_files_are_named(folder, file, text, words):
    (folder / "zero" / file).write_bytes(text)
    with pytest.raises(ValueError, match=rf"1 file is damaged: .*zero.{words}"):
        find_runs([folder])


def test_a_damaged_file_of_every_run_is_named(folder):
    for run in ("zero", "clip"):
        (folder / run / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"2 files are damaged: .*clip.*; .*zero"):
        find_runs([folder])


def test_folders_without_runs_are_named(tmp_path):
    (tmp_path / "report.html").touch()
    with pytest.raises(ValueError, match=r"report\.html is a file; pass the folder of a run"):
        find_runs([tmp_path / "report.html"])
    with pytest.raises(ValueError, match=r"The folder .*nothing is missing"):
        find_runs([tmp_path / "nothing"])
    with pytest.raises(ValueError, match=r"holds no run \(a folder with a recipe.json\)"):
        find_runs([tmp_path])


def test_terms_are_the_other_numbers_of_the_log(tmp_path):
    path = write_run(tmp_path / "run", rates=[0.5, 0.6])
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    rows[1]["late"] = 1
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = find_runs([path])
    assert run.terms == ["id", "triplet", "late"]

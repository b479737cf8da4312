"""Runs that differ in their seed alone are one version."""

import json

from run_folders import both, write_run

from clipreid_kit.reports.runs import find_runs
from clipreid_kit.reports.versions import runs_by_version


def version_sizes(folder):
    versions = runs_by_version(find_runs([folder]))
    return {name: len(members) for name, members in versions.items()}


def change_settings(run, **changes):
    settings = json.loads((run / "recipe.json").read_text())
    (run / "recipe.json").write_text(json.dumps(settings | changes))


def test_seeds_of_one_recipe_become_one_version(folder):
    assert version_sizes(folder) == {"clip": 1, "killed": 1, "v2": 3, "zero": 1}


def test_versions_are_named_after_the_shared_part_of_their_runs(tmp_path):
    rates = {
        "v1-seed0": 1.0,
        "v1-seed10": 1.0,
        "v2_0": 2.0,
        "v2_1": 2.0,
        "v10": 10.0,
    }
    for name, lr in rates.items():
        run = tmp_path / name
        write_run(run, seed=len(name), lr=lr, rates=[0.5], results=both(0.1, 0.5))
    assert list(version_sizes(tmp_path)) == ["v1", "v2", "v10"]


def test_versions_of_one_name_list_their_runs(tmp_path):
    for name, lr in (("a/seed0", 1.0), ("a/seed1", 1.0), ("a/seed2", 2.0), ("a/seed3", 2.0)):
        write_run(tmp_path / name, seed=int(name[-1]), lr=lr)
    assert version_sizes(tmp_path) == {"a/seed0, a/seed1": 2, "a/seed2, a/seed3": 2}


def test_seeds_that_each_start_from_their_own_run_are_one_version(tmp_path):
    for seed in (0, 1):
        run = write_run(tmp_path / f"v3-seed{seed}", seed=seed, results=both(0.1, 0.5))
        change_settings(run, init_from=f"runs/v2-seed{seed}", track={"console": f"{seed}"})
    write_run(tmp_path / "fresh", rates=[0.5], results=both(0.1, 0.5))
    assert version_sizes(tmp_path) == {"fresh": 1, "v3": 2}


def test_runs_of_a_comparison_are_versions(tmp_path):
    """As python -m examples.compare names them: each seed starts from its own weights."""
    for version, source in (("joint_v2", "pretrain"), ("joint_v3", "joint_v2")):
        for seed in (0, 1, 2):
            run = write_run(tmp_path / f"{version}-{seed}", seed=seed, results=both(0.1, 0.5))
            change_settings(run, init_from=f"runs/{source}-{seed}")
    assert version_sizes(tmp_path) == {"joint_v2": 3, "joint_v3": 3}


def test_seeds_that_start_from_one_run_are_one_version(tmp_path):
    sources = {"joint": "runs/pretrain-0", "other": "runs/pretrain-1", "hub": "hub/ViT-B-16-2"}
    for version, source in sources.items():
        for seed in (0, 1, 2):
            run = write_run(tmp_path / f"{version}-{seed}", seed=seed, results=both(0.1, 0.5))
            change_settings(run, init_from=source)
    assert version_sizes(tmp_path) == {"hub": 3, "joint": 3, "other": 3}

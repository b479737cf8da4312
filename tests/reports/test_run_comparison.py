import pytest
from run_folders import random_result, write_compared_run

from clipreid_kit.metrics import compare_results
from clipreid_kit.reports import compare_runs


def test_seeds_of_a_recipe_are_one_model(tmp_path):
    good = [random_result(seed, 0.4) for seed in range(3)]
    for seed, result in enumerate(good):
        write_compared_run(tmp_path / "runs" / "good" / f"seed{seed}", seed, 0.1, result)
    bad = random_result(9, 0.0)
    write_compared_run(tmp_path / "runs" / "bad", 0, 0.2, bad)

    found = compare_runs([tmp_path / "runs"], num_samples=300)
    assert found == compare_results({"bad": bad, "good": good}, num_samples=300)
    assert found.rates["good"]["mean_ap"].num_runs == 3

    options = {"measures": ["mean_ap"], "baseline": "bad", "level": 0.1, "num_samples": 10}
    changed = compare_runs([tmp_path / "runs"], **options)
    assert changed == compare_results({"bad": bad, "good": good}, **options)


def test_result_files_beside_runs(tmp_path):
    write_compared_run(tmp_path / "run", 0, 0.1, random_result(0, 0.1))
    own = tmp_path / "own.json"
    own.write_text(random_result(1, 0.2).to_json(per_query=True))
    moved = tmp_path / "moved.json"
    write_compared_run(tmp_path / "x", 1, 0.3, random_result(2, 0)).joinpath(
        "comparable.json"
    ).rename(moved)

    found = compare_runs([tmp_path / "run", own, moved], num_samples=10)
    assert list(found.rates) == ["run", "own", "moved"]


def test_what_does_not_pair(tmp_path):
    write_compared_run(tmp_path / "a", 0, 0.1, random_result(0, 0.1))
    write_compared_run(tmp_path / "b", 0, 0.2, random_result(1, 0.1), data="others")
    with pytest.raises(ValueError, match="compare: a and b were tested on different images"):
        compare_runs([tmp_path / "a", tmp_path / "b"])

    write_compared_run(tmp_path / "a1", 1, 0.1, random_result(0, 0.1))
    with pytest.raises(ValueError, match=r"these are runs of one recipe only \(a\); pass those of"):
        compare_runs([tmp_path / "a", tmp_path / "a1"])

    write_compared_run(tmp_path / "killed", 0, 0.3)
    with pytest.raises(ValueError, match=r"killed: the run has no comparable\.json"):
        compare_runs([tmp_path / "a", tmp_path / "killed"])

    write_compared_run(tmp_path / "c", 0, 0.4, random_result(2, 0.1))
    with pytest.raises(
        ValueError, match="no result of text_to_image by query; the tasks that have"
    ):
        compare_runs([tmp_path / "a", tmp_path / "c"], task="text_to_image")

    (tmp_path / "a.json").write_text(random_result(1, 0.2).to_json(per_query=True))
    with pytest.raises(ValueError, match="a names both a run and a file; rename the file"):
        compare_runs([tmp_path / "a", tmp_path / "a.json"])

    with pytest.raises(ValueError, match="there is nothing to compare; pass folders of runs"):
        compare_runs([])

from contextlib import redirect_stdout

import pytest
from run_folders import both, numbers, retrieval_numbers, split_numbers, write_run

from examples.trainer.report import main


@pytest.fixture
def folder(tmp_path):
    """Runs in a folder that the test may change."""
    return write_runs(tmp_path / "runs")


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    """What the command makes of the same runs, to be read only; what it prints lies beside."""
    folder = tmp_path_factory.mktemp("gathered")
    runs = write_runs(folder / "runs")

    with (folder / "printed.txt").open("w") as printed, redirect_stdout(printed):
        assert main([str(runs), "--out", str(folder / "out")]) == 0
    return folder / "out"


def write_runs(runs):
    """A zero-shot run, a version of three seeds, one with a prompt phase, and a killed run."""
    tasks = {"image_to_image": numbers(0.25), "text_to_image": retrieval_numbers(0.2)}
    write_run(runs / "zero", stage="zero_shot", results={"before": tasks}, note="As it comes.")

    for seed, rate in enumerate((0.7, 0.75, 0.8)):
        results = both(0.25, rate)
        results["before"]["image_to_image.splits"] = split_numbers([0.2, 0.3])
        results["after"]["image_to_image.splits"] = split_numbers([rate, rate + 0.1])
        results["after"]["image_to_image.distractors"] = split_numbers([rate / 2])
        rates = [0.5, rate - 0.1, 0.4]
        run = runs / "v2" / f"seed{seed}"
        write_run(run, seed=seed, rates=rates, results=results, note="Two | v.")

    results = both(0.25, 0.6)
    write_run(runs / "clip", stage="clip_reid", rates=[None, 0.5], prompt=3, results=results)
    write_run(runs / "killed", rates=[0.3], lr=7.0)
    return runs

import pytest
from run_folders import numbers, retrieval_numbers, write_run

from clipreid_kit.reports.frozen_baseline import change_rows, changes_of, verdict
from clipreid_kit.reports.runs import find_runs

BETTER = {"before": {"image_to_image": numbers(0.25)}, "after": {"image_to_image": numbers(0.5)}}
WORSE = {
    "before": {"image_to_image": numbers(0.5), "text_to_image": retrieval_numbers(0.4)},
    "after": {"image_to_image": numbers(0.3), "text_to_image": retrieval_numbers(0.4)},
}


def test_changes_are_of_fractions():
    change = changes_of(BETTER)["image_to_image"]
    assert change == pytest.approx({"R1": 0.25, "R5": 0.25, "R10": 0.25, "mAP": 0.25, "mINP": 0.2})
    assert changes_of(WORSE)["text_to_image"]["mINP"] is None


def test_what_was_not_measured_before_has_no_change():
    assert changes_of({"before": BETTER["before"]}) == {}
    assert changes_of({"before": {}, "after": BETTER["after"]}) == {}


def test_the_verdict_names_what_became_worse():
    assert verdict(BETTER) == (
        "image to image: training made the start model better (mAP 15.0 frozen, 40.0 trained)."
    )
    assert verdict(WORSE).splitlines() == [
        "image to image: training made the start model WORSE (mAP 40.0 frozen, 20.0 trained).",
        "text to image: training made the start model neither better nor worse "
        "(mAP 20.0 frozen, 20.0 trained).",
    ]
    assert verdict({"before": BETTER["before"]}) == ""


def test_of_many_tasks_the_first_of_each_kind_has_a_sentence():
    after = dict.fromkeys(["image_to_image", "text_to_image"], numbers(0.5))
    after["image_to_image.rerank"] = numbers(0.5)
    after["image_to_image.occluded_top_40"] = numbers(0.2)
    after["image_to_image.occluded_top_20"] = numbers(0.3)
    before = dict.fromkeys(after, numbers(0.4))

    first, second, others = verdict({"before": before, "after": after}).splitlines()
    assert first.startswith("image to image: training made the start model better")
    assert second.startswith("text to image: training made the start model better")
    assert others == (
        "3 other tasks: 2 WORSE, 1 better; the worst is image to image, occluded top 40 "
        "(mAP 30.0 frozen, 10.0 trained)."
    )

    del after["image_to_image.occluded_top_40"], after["image_to_image.occluded_top_20"]
    assert len(verdict({"before": before, "after": after}).splitlines()) == 3


def test_changes_are_taken_run_by_run(tmp_path):
    for seed, (before, after) in enumerate([(0.3, 0.5), (0.5, 0.4)]):
        moments = {"before": before, "after": after}
        results = {name: {"image_to_image": numbers(value)} for name, value in moments.items()}
        write_run(tmp_path / "v" / f"seed{seed}", seed=seed, results=results)

    (row,) = change_rows(find_runs([tmp_path]))
    assert (row["version"], row["num_runs"], row["num_worse"]) == ("v", 2, 1)
    assert row["mAP_fraction"] == pytest.approx((0.2 - 0.1) / 2)
    assert row["mAP_std_fraction"] == pytest.approx(0.3 / 2**0.5)

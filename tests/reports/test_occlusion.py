from clipreid_kit.reports import occlusion_curves, occlusion_task
from clipreid_kit.reports.figures import _occlusion_by_version


def test_curves_begin_at_the_clean_rate_of_their_protocol():
    numbers = {
        "image_to_image": {"mean_ap": 0.9, "rank_1": 1.0},
        "image_to_image.splits": {"mean_ap": 0.7},
        "text_to_image": {"mean_ap": 0.1},
        f"image_to_image.{occlusion_task('top', 0.5)}": {"mean_ap": 0.2, "rank_1": 0.5},
        f"image_to_image.{occlusion_task('top', 0.125)}": {"mean_ap": 0.6},
        f"image_to_image.splits.{occlusion_task('patch', 0.3)}": {"mean_ap": 0.4},
    }
    assert occlusion_curves(numbers) == {
        "top": {0.0: 0.9, 0.125: 0.6, 0.5: 0.2},
        "patch splits": {0.0: 0.7, 0.3: 0.4},
    }
    assert list(occlusion_curves(numbers)["top"]) == [0.0, 0.125, 0.5]
    assert occlusion_curves(numbers, "R1") == {"top": {0.0: 1.0, 0.5: 0.5}}


def test_without_occlusion_there_are_no_curves():
    assert occlusion_curves({"image_to_image": {"mean_ap": 0.9}}) == {}


def test_versions_are_drawn_together_after_training():
    tasks = ("image_to_image", "image_to_image.occluded_top_30")
    rates = {("a", "before"): 0.1, ("a", "after"): 0.6, ("b", "zero_shot"): 0.3}
    table = [
        {"version": version, "task": task, "moment": moment, "mAP_fraction": rate / (1 + number)}
        for (version, moment), rate in rates.items()
        for number, task in enumerate(tasks)
    ]
    assert _occlusion_by_version(table) == {
        "top": {"a": {0.0: 0.6, 0.3: 0.3}, "b": {0.0: 0.3, 0.3: 0.15}}
    }

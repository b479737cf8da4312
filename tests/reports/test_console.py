from run_folders import numbers, retrieval_numbers, split_numbers

from clipreid_kit.reports.console import epoch_line, flat, results_table


def test_the_table_has_a_line_per_task_and_moment():
    results = {
        "before": {"image_to_image": numbers(0.25)},
        "after": {
            "image_to_image": numbers(0.5),
            "image_to_image.splits": split_numbers([0.4, 0.6]),
            "text_to_image": retrieval_numbers(0.2),
        },
        "data": {"unreadable": 2},
    }
    lines = [line.split() for line in results_table(results).splitlines()]
    assert lines == [
        ["Rank-1", "Rank-5", "Rank-10", "mAP", "mINP"],
        ["image", "to", "image,", "before", "25.0", "35.0", "40.0", "15.0", "0.0"],
        ["image", "to", "image,", "after", "50.0", "60.0", "65.0", "40.0", "20.0"],
        ["image", "to", "image,", "change", "+25.0", "+25.0", "+25.0", "+25.0", "+20.0"],
        ["image", "to", "image,", "splits,", "before", "-", "-", "-", "-", "-"],
        ["image", "to", "image,", "splits,", "after", "50.0", "60.0", "65.0", "40.0", "20.0"],
        ["text", "to", "image,", "before", "-", "-", "-", "-", "-"],
        ["text", "to", "image,", "after", "20.0", "30.0", "40.0", "10.0", "-"],
    ]
    assert len({len(line) for line in results_table(results).splitlines()}) == 1


def test_tasks_under_occlusion_are_a_table_by_share():
    tasks = ["image_to_image"]
    tasks += [f"image_to_image.occluded_{name}" for name in ("top_20", "top_40", "patch_20")]
    results = {"before": dict.fromkeys(tasks, numbers(0.25))}
    results["after"] = dict(zip(tasks, map(numbers, (0.5, 0.4, 0.3, 0.35)), strict=True))

    lines = [line.split() for line in results_table(results).splitlines()[4:]]
    assert lines == [
        [],
        ["mAP", "by", "occluded", "share", "0", "%", "20", "%", "40", "%"],
        ["top,", "before", "15.0", "15.0", "15.0"],
        ["top,", "after", "40.0", "30.0", "20.0"],
        ["patch,", "before", "15.0", "15.0", "-"],
        ["patch,", "after", "40.0", "25.0", "-"],
    ]


def test_an_epochs_line_has_validation_mark_and_alarms():
    row = {"epoch": 3, "loss": 1.23456, "images_per_second": 99.6, "best": True, "alarms": []}
    assert epoch_line(row) == "epoch   3  loss 1.235  100 images/s"

    row["validation"] = {"loss": {"loss": 1.0}, "image_to_image": numbers(0.5)}
    line = "epoch   3  loss 1.235  100 images/s  validation Rank-1 50.0  mAP 40.0  best"
    assert epoch_line(row) == line

    row |= {"best": False, "alarms": ["all embeddings are alike"]}
    assert epoch_line(row) == f"{line.removesuffix('  best')}\n  ALARM: all embeddings are alike"


def test_flat_keeps_the_order():
    values = {"b": 1, "a": {"d": {"e": 2}, "c": 3}}
    assert list(flat(values, "run/")) == [("run/b", 1), ("run/a/d/e", 2), ("run/a/c", 3)]

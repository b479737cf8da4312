import math

import pytest
from run_folders import numbers, retrieval_numbers, split_numbers

from clipreid_kit.reports.measures import percent, rates_of, spread_of, task_title, validation_rates

NOTHING = {"R1": None, "R5": None, "R10": None, "mAP": None, "mINP": None}


def test_rates_are_read_from_both_kinds_of_results():
    assert rates_of(numbers(0.5)) == pytest.approx(
        {"R1": 0.5, "R5": 0.6, "R10": 0.65, "mAP": 0.4, "mINP": 0.2}
    )
    assert rates_of(retrieval_numbers(0.3)) == pytest.approx(
        {"R1": 0.3, "R5": 0.4, "R10": 0.5, "mAP": 0.15, "mINP": None}
    )
    assert rates_of({}) == NOTHING


def test_rates_of_splits_are_their_means():
    splits = split_numbers([0.4, 0.6])
    assert rates_of(splits)["R1"] == pytest.approx(0.5)
    assert spread_of(splits)["R1"] == pytest.approx(0.1 * math.sqrt(2))
    assert spread_of(split_numbers([0.4])) == NOTHING
    assert spread_of(numbers(0.5)) == NOTHING


def test_validation_is_that_of_the_task():
    validation = {
        "loss": 1.5,
        "text_to_image": retrieval_numbers(0.3),
        "image_to_image": numbers(0.5),
    }
    row = {"validation": validation}
    assert validation_rates(row, "image_to_image")["R1"] == 0.5
    assert validation_rates(row, "text_to_image")["R1"] == 0.3
    assert validation_rates(row, "image_to_text")["R1"] == 0.3  # the first


def test_validation_by_splits_counts_for_its_task():
    validation = {
        "text_to_image": numbers(0.1),
        "image_to_image.splits": split_numbers([0.4, 0.6]),
    }
    rates = validation_rates({"validation": validation}, "image_to_image")
    assert rates["R1"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "row", [{}, {"validation": None}, {"validation": {}}, {"validation": {"loss": 1.0}}]
)
def test_without_validation_there_are_no_rates(row):
    assert validation_rates(row, "image_to_image") == NOTHING


@pytest.mark.parametrize(
    ("rate", "spread", "text"),
    [
        (0.12345, None, "12.35"),
        (0.5, 0.012, "50.00 ± 1.20"),
        (None, None, "-"),
        (math.nan, None, "-"),
    ],
)
def test_percent(rate, spread, text):
    assert percent(rate, spread) == text


@pytest.mark.parametrize(
    ("task", "title"),
    [
        ("image_to_image", "Image to image, query and gallery"),
        ("image_to_image.leave_one_out", "Image to image, leave one out"),
        ("text_to_image", "Text to image"),
    ],
)
def test_titles_of_tasks(task, title):
    assert task_title(task) == title

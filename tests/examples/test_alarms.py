"""A loss or gradient norm that jumps is named; a noisy one is not."""

from examples.trainer.alarms import check_jumps

STEADY = [
    {"epoch": 1, "loss": 6.9, "triplet": 0.9, "gradient_norm": 6.0, "negative_cosine": 0.1},
    {"epoch": 2, "loss": 6.5, "triplet": 0.5, "gradient_norm": 5.0, "negative_cosine": 0.1},
    {"epoch": 3, "loss": 6.35, "triplet": 0.45, "gradient_norm": 4.0, "negative_cosine": 0.1},
]


def test_a_run_that_goes_wrong_is_named():
    means = {"loss": 9.42, "triplet": 2.9, "gradient_norm": 18.1, "negative_cosine": 0.6}
    assert check_jumps(means, STEADY) == [
        f"{name} jumped from {before} to {after} in one epoch: lower optim.lr, or lengthen "
        "optim.warmup_epochs"
        for name, before, after in (
            ("loss", "6.35", "9.42"),
            ("triplet", "0.45", "2.9"),
            ("gradient_norm", "4", "18.1"),
        )
    ]


def test_noise_raises_no_alarm():
    # Below 1.4 times the larger of two epochs, and below 3 times for the norm.
    assert check_jumps({"loss": 9.0, "triplet": 1.2, "gradient_norm": 14.9}, STEADY) == [
        "triplet jumped from 0.45 to 1.2 in one epoch: lower optim.lr, or lengthen "
        "optim.warmup_epochs"
    ]
    assert check_jumps({"loss": 9.0, "triplet": 0.6, "gradient_norm": 14.9}, STEADY) == []


def test_a_rise_from_almost_nothing_is_none():
    rows = [{"loss": 5.0}, {"loss": 0.01}, {"loss": 0.01}, {"loss": 0.01}]
    assert check_jumps({"loss": 0.4}, rows) == []
    assert len(check_jumps({"loss": 0.6}, rows)) == 1


def test_the_first_epoch_and_new_terms_have_nothing_to_compare():
    assert check_jumps({"loss": 1e9}, []) == []
    assert check_jumps({"supcon": 1e9}, STEADY) == []

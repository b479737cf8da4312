import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_towers import tiny_towers
from torch import nn
from torch.testing import assert_close

from clipreid_kit.clip import interpolate_weights

START = {
    "w": torch.tensor([1.0, -2.0]),
    "n": torch.tensor(3),
    "h": torch.tensor([1.0], dtype=torch.bfloat16),
}
END = {
    "w": torch.tensor([3.0, 0.5]),
    "n": torch.tensor(8),
    "h": torch.tensor([2.0], dtype=torch.bfloat16),
}


@given(st.floats(0, 1))
def test_is_on_the_line_between(weight):
    between = interpolate_weights(START, END, weight)
    assert_close(between["w"], (1 - weight) * START["w"] + weight * END["w"])
    assert between["h"].dtype == torch.bfloat16


@given(st.floats(0, 1))
def test_is_symmetric(weight):
    forth = interpolate_weights(START, END, weight)
    back = interpolate_weights(END, START, 1 - weight)
    assert_close(forth["w"], back["w"])


@pytest.mark.parametrize(("weight", "expected"), [(0.0, 3), (0.49, 3), (0.5, 8), (1.0, 8)])
def test_integers_come_from_the_nearer_one(weight, expected):
    assert interpolate_weights(START, END, weight)["n"].item() == expected


@pytest.mark.parametrize(("weight", "source"), [(0.0, START), (1.0, END)])
def test_the_ends_are_exact_copies(weight, source):
    found = interpolate_weights(START, END, weight)
    assert all(torch.equal(found[name], source[name]) for name in source)
    assert all(found[name].data_ptr() != source[name].data_ptr() for name in source)


def test_the_dtype_is_that_of_the_end():
    start = {"w": torch.ones(1)}
    end = {"w": torch.tensor([1.0078125], dtype=torch.bfloat16)}
    assert interpolate_weights(start, end, 1.0)["w"].dtype == torch.bfloat16

    # in bfloat16, half of the difference would be lost
    assert interpolate_weights(end, start, 0.5)["w"].item() == pytest.approx(1.00390625)


def test_towers_load_the_weights_between_two_others():
    first, last, between = (tiny_towers("reid-tiny-resnet", seed=seed) for seed in (0, 1, 2))
    between.load_state_dict(interpolate_weights(first, last, 0.25))

    first_weight, last_weight, weight = (
        towers.model.visual.conv1.weight for towers in (first, last, between)
    )
    assert_close(weight, 0.75 * first_weight + 0.25 * last_weight)
    assert not torch.equal(weight, first_weight)


@pytest.mark.parametrize("weight", [1.5, float("nan")])
def test_a_weight_out_of_range(weight):
    with pytest.raises(ValueError, match=rf"weight in \[0, 1\], got {weight}"):
        interpolate_weights(START, END, weight)


@pytest.mark.unhooked
def test_a_weight_that_is_no_number():
    with pytest.raises(ValueError, match=r"interpolate_weights: expected weight as a number"):
        interpolate_weights(START, END, "0.5")


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (nn.Linear(2, 2, bias=False), r"got 1 in one only: bias"),
        (nn.Linear(3, 2), r"same shapes, got weight \(2, 2\) and \(2, 3\)"),
    ],
)
def test_checkpoints_of_different_models(other, match):
    with pytest.raises(ValueError, match=match):
        interpolate_weights(nn.Linear(2, 2), other, 0.5)

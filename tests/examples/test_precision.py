import pytest
import torch

from examples.trainer import precision
from examples.trainer.precision import slow_precision

CPU = torch.device("cpu")


@pytest.fixture
def seconds(monkeypatch):
    """Seconds that a layer takes, by type."""
    times = {torch.float32: 1.0, torch.bfloat16: 20.0}
    monkeypatch.setattr(precision, "_seconds", times.__getitem__)
    return times


def test_a_processor_without_bfloat16(seconds):
    assert slow_precision("bf16", CPU) == (
        "precision: bf16 is slow on this processor: a layer takes 20 times as long as in float32; "
        "use precision: no."
    )


def test_a_processor_with_bfloat16(seconds):
    seconds[torch.bfloat16] = 1.2
    assert slow_precision("bf16", CPU) is None


def test_nothing_is_tried_for_others(monkeypatch):
    monkeypatch.setattr(precision, "_seconds", None)
    assert slow_precision("no", CPU) is None
    assert slow_precision("bf16", torch.device("cuda")) is None


def test_layers_are_timed_and_draw_no_random_numbers_of_the_run():
    state = torch.get_rng_state()
    assert precision._seconds(torch.float32) > 0
    assert torch.equal(torch.get_rng_state(), state)

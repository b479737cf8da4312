import io
import random

import numpy as np
import pytest
import torch

from clipreid_kit.clip import random_state, set_random_state


def draw():
    return [
        *torch.randn(3).tolist(),
        random.random(),
        random.gauss(0, 1),
        *np.random.standard_normal(3),  # noqa: NPY002
    ]


def test_every_generator_goes_on_where_it_was():
    draw()  # a second gaussian is kept by Python and NumPy
    file = io.BytesIO()
    torch.save(random_state(), file)
    first = draw()
    file.seek(0)
    set_random_state(torch.load(file, weights_only=True))  # as TrainingCheckpoints reads it
    assert draw() == first


def test_states_of_gpus_that_are_not_there_are_left_out(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: asked.append(device))
    state = random_state()
    set_random_state({**state, "cuda": [torch.get_rng_state(), torch.get_rng_state()]})
    assert asked == [0]


def damaged():
    state = random_state()
    version, numbers, gauss = state["python"]
    name, keys, position, *rest = state["numpy"]
    yield "nothing", {}
    for key in state:
        yield f"no {key}", {k: v for k, v in state.items() if k != key}
    for why, python in (
        ("few", [3]),
        ("large", [version, [2**70, *numbers[1:]], gauss]),
        ("text", [3, numbers, "x"]),
    ):
        yield f"python {why}", state | {"python": python}
    for why, wrong in (
        ("few keys", [name, [1, 2], position, *rest]),
        ("far", [name, keys, 10**6, *rest]),
        ("other", ["PCG64", keys, position, *rest]),
        ("short", [name]),
    ):
        yield f"numpy {why}", state | {"numpy": wrong}
    yield "cpu", state | {"cpu": torch.zeros(3)}
    yield "cuda", state | {"cuda": [torch.zeros(3)]}


@pytest.mark.unhooked  # the hook draws from Python's generator itself
@pytest.mark.parametrize(("why", "state"), [pytest.param(*case, id=case[0]) for case in damaged()])
def test_a_damaged_state_is_refused_and_nothing_changes(why, state):
    draw()
    before = random_state()
    first = draw()
    set_random_state(before)
    with pytest.raises(ValueError, match="set_random_state: This is not a state of `random_state`"):
        set_random_state(state)
    assert draw() == first, why

import io
import random

import numpy as np
import pytest
import torch

from clipreid_kit.clip import random_state, set_random_state


def draw():
    """Numbers from every generator."""
    return [
        *torch.randn(3).tolist(),
        random.random(),
        random.gauss(0, 1),
        *np.random.standard_normal(3),  # noqa: NPY002
    ]


def test_every_generator_continues_where_it_was():
    draw()  # Python and NumPy keep a second Gaussian number
    file = io.BytesIO()
    torch.save(random_state(), file)
    expected = draw()

    file.seek(0)
    set_random_state(torch.load(file, weights_only=True))  # as TrainingCheckpoints reads it

    assert draw() == expected


def test_states_of_absent_gpus_are_ignored(monkeypatch):
    devices = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: devices.append(device))

    two_gpus = [torch.get_rng_state(), torch.get_rng_state()]
    set_random_state({**random_state(), "cuda": two_gpus})

    assert devices == [0]


def damaged_states():
    """Each damaged state with a word about the damage."""
    state = random_state()
    version, numbers, gauss = state["python"]
    name, keys, position, *rest = state["numpy"]

    yield "empty", {}
    for missing in state:
        yield f"no {missing}", {key: part for key, part in state.items() if key != missing}

    for damage, python in {
        "short": [3],
        "too large": [version, [2**70, *numbers[1:]], gauss],
        "text": [3, numbers, "x"],
    }.items():
        yield f"python {damage}", {**state, "python": python}

    for damage, numpy in {
        "few keys": [name, [1, 2], position, *rest],
        "position out of range": [name, keys, 10**6, *rest],
        "another generator": ["PCG64", keys, position, *rest],
        "short": [name],
    }.items():
        yield f"numpy {damage}", {**state, "numpy": numpy}

    yield "cpu", {**state, "cpu": torch.zeros(3)}
    yield "cuda", {**state, "cuda": [torch.zeros(3)]}


@pytest.mark.unhooked  # the hook itself draws from Python's generator
@pytest.mark.parametrize(
    "state", [pytest.param(state, id=damage) for damage, state in damaged_states()]
)
def test_a_damaged_state_changes_no_generator(state):
    draw()
    before = random_state()
    expected = draw()
    set_random_state(before)

    with pytest.raises(
        ValueError, match=r"set_random_state: This is not a state of `random_state` \("
    ):
        set_random_state(state)

    assert draw() == expected

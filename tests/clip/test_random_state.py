import io
import random

import numpy as np
import pytest
import torch

from clipreid_kit.clip import random_state, set_random_state


def draw():
    return [*torch.randn(3).tolist(), random.random(), random.gauss(0, 1), *np.random.standard_normal(3)]  # noqa: NPY002


def test_every_generator_goes_on_where_it_was():
    draw()  # a second gaussian is kept by Python and NumPy
    file = io.BytesIO()
    torch.save(random_state(), file)
    first = draw()
    file.seek(0)
    set_random_state(torch.load(file, weights_only=True))  # as TrainingCheckpoints reads it
    assert draw() == first


def test_states_of_gpus_that_are_not_there_are_left_out():
    state = random_state()
    more = torch.cuda.device_count() + 1
    set_random_state({**state, "cuda": [*state["cuda"], torch.get_rng_state()][:more]})


@pytest.mark.parametrize("wrong", [{}, {"cpu": 1}, {"python": [3], "numpy": ["MT19937", [1]]}])
def test_another_state_is_refused(wrong):
    state = random_state() | wrong if wrong else {}
    with pytest.raises(ValueError, match="set_random_state: expected what random_state gave"):
        set_random_state(state)

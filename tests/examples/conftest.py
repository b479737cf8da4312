"""The trainer's tests run many runs in one process; accelerate keeps its precision for a process."""

import layouts
import pytest
from accelerate.state import AcceleratorState


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def roots(tmp_path_factory):
    """Makes the small set of a source once, in its own layout; nothing for one that the generated set stands for."""
    made = {}

    def root(source):
        if source not in made and hasattr(layouts, source):
            made[source] = str(getattr(layouts, source)(tmp_path_factory.mktemp(source)))
        return made.get(source)

    return root

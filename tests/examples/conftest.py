"""Fixtures of the trainer's tests: many runs in one process, each with a fresh accelerator."""

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
    """Build the small set of a source once, in its layout; ``None`` for a generated source."""
    made = {}

    def root(source):
        if source not in made and hasattr(layouts, source):
            made[source] = str(getattr(layouts, source)(tmp_path_factory.mktemp(source)))
        return made.get(source)

    return root

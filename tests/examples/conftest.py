"""Fixtures of the trainer's tests: many runs in one process, each with a fresh accelerator."""

import layouts
import pytest
from accelerate.state import AcceleratorState
from tiny import tiny_images

from clipreid_kit.clip.towers import model_catalogue


@pytest.fixture(scope="module", autouse=True)
def _narrow_models(request):
    """Make the small models a quarter as large: what a run writes takes longer than its steps.

    Not in modules with the mark ``full_width``.
    """
    if request.node.get_closest_marker("full_width"):
        yield
        return

    config_of = model_catalogue.small_model_config

    def narrow(name):
        config = config_of(name)
        config["vision_cfg"]["width"] //= 2
        config["text_cfg"] |= {"width": 16, "heads": 2}
        return config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_catalogue, "small_model_config", narrow)
        yield


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def without_report(monkeypatch):
    """Write no reports of runs."""
    monkeypatch.setattr("examples.trainer.run.write_run_report", lambda *_, **__: None)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The folder of the images that tiny recipes read."""
    return tiny_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def roots(tmp_path_factory):
    """Build the small set of a source once, in its layout; ``None`` for a generated source."""
    made = {}

    def root(source):
        if source not in made and hasattr(layouts, source):
            made[source] = str(getattr(layouts, source)(tmp_path_factory.mktemp(source)))
        return made.get(source)

    return root

"""Settings shared by all tests."""

import gc
import logging
import os
import socket
import sys
from collections.abc import Generator

import hypothesis
import pytest
import torch
from _pytest.doctest import DoctestModule

# No limit of time, which another program on the machine could break.
hypothesis.settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "wide",
    hypothesis.settings.get_profile("suite"),
    derandomize=False,
    max_examples=200,
    print_blob=True,
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

# else a warning of another library's logger is written to what a test reads from stderr
logging.getLogger().addHandler(logging.NullHandler())

os.fsync = os.fstat  # the same errors, without the disk, for which tests that write would wait

gc.disable()  # until all is imported: almost nothing of that is garbage

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores
    torch.set_num_threads(1)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Look for doctests in the library only: no test has one, and looking takes time."""
    collectors = yield
    return [collector for collector in collectors if not isinstance(collector, DoctestModule)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a mark that its file does not spell: the Makefile finds the files by these words."""
    for mark in ("slow", "call_stack"):
        for path in {item.path for item in items if item.get_closest_marker(mark)}:
            if mark not in path.read_text(encoding="utf-8"):
                raise pytest.UsageError(f"{path} has tests marked {mark!r} without the word.")


def pytest_collection_finish() -> None:
    """Keep what the imports made out of each later garbage collection, which every run asks for."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Switch the checks of the shape hook off, where it is, for tests marked unhooked."""
    hook = sys.modules.get("shape_hook")
    if hook is None or not item.get_closest_marker("unhooked"):
        return (yield)

    # torch.compile allows eight versions of a piece of code, and the hook's functions share theirs
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()

    with hook.without_checks():
        return (yield)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.default_generator.manual_seed(0)  # torch.manual_seed notes the stack, for each device


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Fixtures of the command's tests: many runs in one process, each with a fresh accelerator."""

import pytest
from accelerate.state import AcceleratorState

from clipreid_kit.cli.main import main


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def clipreid(capsys):
    """Run the command; return its status and what it prints on both streams."""

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return status, output.out, output.err

    return call

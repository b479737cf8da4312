"""Tests in forks are reported as those of one process: passes, failures, skips and deaths."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from forked_workers import CHUNK, _chunks_of

CONFTEST = """
from forked_workers import run_in_forks

def pytest_runtestloop(session):
    run_in_forks(session, 2)
    return True
"""

TESTS = """
import os
import signal
import pytest

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("folder")

@pytest.mark.parametrize("number", range(60))
def test_passes(folder, tmp_path, capfd, number):
    print("printed")
    (folder / str(number)).write_text("")
    assert capfd.readouterr().out == "printed\\n"

def test_fails():
    print("said before")
    assert 1 == 2

def test_is_skipped():
    pytest.skip("its reason")

@pytest.fixture
def broken():
    raise RuntimeError("a broken fixture")

def test_without_its_fixture(broken):
    pass

def test_dies():
    os.kill(os.getpid(), signal.SIGSEGV)
"""


def run(folder, *more):
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_some.py").write_text(TESTS)
    (folder / "test_that_leaves.py").write_text("def test_leaves(): __import__('os')._exit(0)")
    options = ["-q", "-rs", "-p", "no:cacheprovider", "-o", f"pythonpath={Path(__file__).parent}"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--basetemp", folder / "temporary", *more],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_reports_are_those_of_one_process_and_a_fork_that_dies_is_a_failed_test(tmp_path):
    done = run(tmp_path)

    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stderr
    assert "3 failed, 60 passed, 1 skipped, 1 error in" in done.stdout
    assert "said before" in done.stdout
    assert "assert 1 == 2" in done.stdout
    assert "its reason" in done.stdout
    assert "RuntimeError: a broken fixture" in done.stdout
    assert "The process died of SIGSEGV, in or after test_some.py::test_dies." in done.stdout
    assert "ended with status 0, in or after test_that_leaves.py::test_leaves." in done.stdout


def test_the_first_failure_ends_all_where_that_is_asked_for(tmp_path):
    done = run(tmp_path, "-x")

    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stderr
    assert "! stopping after " in done.stdout
    assert " failed, 60 passed in " in done.stdout  # the skipped and the broken are not begun


def test_neighbours_of_one_file_are_taken_together():
    items = [SimpleNamespace(path=name) for name in "a" * (CHUNK + 2) + "b" * 3]
    chunks = _chunks_of(items)
    assert [len(chunk) for chunk in chunks] == [CHUNK, 2, 3]
    assert [number for chunk in chunks for number in chunk] == list(range(CHUNK + 5))

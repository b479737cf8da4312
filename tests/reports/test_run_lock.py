"""One process at a time writes to the folder of a run; a dead one blocks nobody."""

import os
import warnings

import pytest

from clipreid_kit.reports import RunLock, holds_run, open_run
from clipreid_kit.reports.run_lock import LOCK_FILE

pytest.importorskip("fcntl")


def answer_of_another_process(folder):
    """The error of a process that tries to lock the folder; ``free`` if it can."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        try:
            RunLock(folder)
            answer = "free"
        except ValueError as error:
            answer = str(error)
        os.write(write, answer.encode())
        os._exit(0)

    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as stream:
        return stream.read()


def test_a_second_process_is_refused_and_told_who_holds_the_lock(tmp_path):
    with RunLock(tmp_path):
        text = answer_of_another_process(tmp_path)
        assert text.startswith(f"{tmp_path}: process ")
        assert "is writing to this run. Wait until it ends, or change --out." in text
    assert answer_of_another_process(tmp_path) == "free"


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    (tmp_path / LOCK_FILE).write_text("process 1 on here\n")
    assert answer_of_another_process(tmp_path) == "free"


def test_an_open_run_is_locked_until_it_is_released(tmp_path):
    lock = open_run(tmp_path / "run", {}, resume=False)
    assert "is writing to this run" in answer_of_another_process(tmp_path / "run")
    lock.release()
    lock.release()
    assert answer_of_another_process(tmp_path / "run") == "free"


def test_a_refused_run_is_released(tmp_path):
    open_run(tmp_path, {}, resume=False).release()
    (tmp_path / "results.json").write_text("{}")
    assert holds_run(tmp_path)
    with pytest.raises(ValueError, match="already holds a run"):
        open_run(tmp_path, {}, resume=False)
    assert answer_of_another_process(tmp_path) == "free"


def test_a_disk_without_locks(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.lockf", no_locks)
    with RunLock(tmp_path):
        assert (tmp_path / LOCK_FILE).is_file()

"""Run the collected tests in forks of this process: ``pytest --forks 2``.

Workers of pytest-xdist are new processes, each of which imports and collects everything, and their
reports cost as much as a short test. A fork has what was imported, and pickles its reports. Each
takes a few neighbouring tests at a time, so fixtures of a module are built once, or nearly.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

import pytest
from _pytest.tmpdir import TempPathFactory

CHUNK = 24  # tests that a fork takes at once, of one file

_context = multiprocessing.get_context("fork")


def run_in_forks(session: pytest.Session, number: int) -> None:
    """Run the session's tests in a number of forks, none of which returns."""
    claims = _Claims(session.items, number)
    folder = session.config._tmp_path_factory.getbasetemp()
    sys.stdout.flush()
    sys.stderr.flush()

    forks = {}
    for worker in range(number):
        receiver, sender = _context.Pipe(duplex=False)
        pid = os.fork()
        if pid == 0:
            _work(session, claims, worker, folder / f"fork{worker}", sender)

        sender.close()
        forks[receiver] = _Fork(worker, pid)

    _report(session, claims, forks)


class _Claims:
    """Which test each fork runs, and which tests are left: in memory that the forks share."""

    def __init__(self, items: list[pytest.Item], num_workers: int):
        self.items = items
        self.chunks = _chunks_of(items)
        self.next_chunk = _context.Value("q", 0)
        self.running = _context.RawArray("q", num_workers)

    def claimed(self) -> Iterator[int]:
        """Numbers of the tests of one chunk after another, which no other fork has taken."""
        while True:
            with self.next_chunk.get_lock():
                number = self.next_chunk.value
                self.next_chunk.value = number + 1
            if number >= len(self.chunks):
                return
            yield from self.chunks[number]

    def stop(self) -> None:
        """Leave nothing to be taken."""
        with self.next_chunk.get_lock():
            self.next_chunk.value = len(self.chunks)


def _chunks_of(items: list[pytest.Item]) -> list[list[int]]:
    """Neighbouring tests of one file, at most ``CHUNK`` of them, for each chunk."""
    chunks: list[list[int]] = []
    for number, item in enumerate(items):
        if not chunks or len(chunks[-1]) == CHUNK or items[number - 1].path != item.path:
            chunks.append([])
        chunks[-1].append(number)
    return chunks


# In a fork


def _work(
    session: pytest.Session, claims: _Claims, worker: int, folder: Path, sender: Connection
) -> NoReturn:
    """Run tests and end as pytest does, but for destructors, which wait for threads of the parent.

    A fork has one thread; those of a library of C++ that the parent had loaded are not there.
    """
    status = pytest.ExitCode.INTERNAL_ERROR
    try:
        _become_worker(session.config, folder)
        _run_claimed(session, claims, worker, sender)

        failed = pytest.ExitCode.TESTS_FAILED
        session.exitstatus = failed if session.testsfailed else pytest.ExitCode.OK
        os.chdir(session.startpath)
        session.config.hook.pytest_sessionfinish(session=session, exitstatus=session.exitstatus)
        session.config._ensure_unconfigure()
        atexit._run_exitfuncs()
        status = session.exitstatus
    except BaseException:  # noqa: BLE001 (the parent names the test)
        traceback.print_exc()

    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(status))


def _become_worker(config: pytest.Config, folder: Path) -> None:
    """Give this fork files and folders apart from those of the others, and no terminal."""
    manager = config.pluginmanager
    capture = manager.getplugin("capturemanager")
    capture.stop_global_capturing()
    capture.start_global_capturing()
    capture.suspend_global_capture()

    folder.mkdir()
    old = config._tmp_path_factory
    config._tmp_path_factory = TempPathFactory(
        None, old._retention_count, old._retention_policy, old._trace, folder, _ispytest=True
    )

    manager.unregister(name="terminalreporter")
    config.workerinput = {}  # by which pytest's cache knows that another process writes it


def _run_claimed(session: pytest.Session, claims: _Claims, worker: int, sender: Connection) -> None:
    kept = _Kept(session.config)
    session.config.pluginmanager.register(kept)

    numbers = claims.claimed()
    number = next(numbers, None)
    while number is not None:
        following = next(numbers, None)
        claims.running[worker] = number
        session.config.hook.pytest_runtest_protocol(
            item=claims.items[number],
            nextitem=None if following is None else claims.items[following],
        )

        sender.send(kept.reports)
        kept.reports = []
        if session.shouldfail or session.shouldstop:
            break
        number = following

    sender.send(None)


class _Kept:
    """Keeps the reports of a test until it is over; one that says much is made plain data."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.reports: list[pytest.TestReport | dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.longrepr is None:
            self.reports.append(report)
            return

        to_data = self.config.hook.pytest_report_to_serializable
        self.reports.append(to_data(config=self.config, report=report))


# In the parent


@dataclass
class _Fork:
    worker: int
    pid: int


def _report(session: pytest.Session, claims: _Claims, forks: dict[Connection, _Fork]) -> None:
    """Show what the forks report, and a failed test for a fork that dies."""
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    reporter.showfspath = False  # tests of several files come in turns

    while forks:
        for receiver in wait(list(forks)):
            try:
                reports = receiver.recv()
            except EOFError:
                _check_end(session, claims, forks.pop(receiver), expected=False)
                continue

            if reports is None:
                _check_end(session, claims, forks.pop(receiver), expected=True)
            else:
                _show(session.config, reports)

        if session.shouldfail or session.shouldstop:
            claims.stop()

    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)


def _show(config: pytest.Config, reports: list[Any]) -> None:
    from_data = config.hook.pytest_report_from_serializable
    for report in reports:
        whole = from_data(config=config, data=report) if isinstance(report, dict) else report
        config.hook.pytest_runtest_logreport(report=whole)


def _check_end(session: pytest.Session, claims: _Claims, fork: _Fork, *, expected: bool) -> None:
    """Wait for the end of a fork; its status is 0, or 1 where a test failed."""
    _, status = os.waitpid(fork.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if expected and code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return

    item = claims.items[claims.running[fork.worker]]
    how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    text = f"The process {how}, in or after {item.nodeid}."
    report = pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")
    session.config.hook.pytest_runtest_logreport(report=report)

"""The number of cores that may be used, and threads in which torch starts no others."""

import os
import threading

import pytest
import torch

from clipreid_kit import _threads
from clipreid_kit._threads import default_threads, own_threads, usable_cores


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """A machine of 8 cores without quotas; return a function that writes one of its files."""

    def write(name, text):
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    own = tmp_path / "own"
    own.write_text("0::/user/job\n", encoding="utf-8")
    monkeypatch.setattr(_threads, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(_threads, "_OWN_CGROUP", own)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return write


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "300000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"user/cpu.max": "450000 100000\n", "user/job/cpu.max": "max 100000\n"}, 4),
        ({"user/job/cpu.max": "200000 100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
    ],
)
def test_the_quota_of_each_group_counts(cgroups, files, cores):
    for name, text in files.items():
        cgroups(name, text)

    assert usable_cores() == cores


def test_affinity_and_torch_count(cgroups, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert default_threads() == 4

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert default_threads() == 2

    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_threads() == 1


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def seen_by_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_each_thread_works_alone_and_no_setting_is_left(three_threads):
    with own_threads(2) as threads:
        both = threading.Barrier(2, timeout=10)

        def work(item):
            both.wait()  # so that each thread takes one item
            return item, torch.get_num_threads(), torch.is_grad_enabled()

        assert list(threads.map(work, [5, 6])) == [(5, 1, False), (6, 1, False)]
        assert torch.get_num_threads() == seen_by_a_thread() == 3

    assert torch.get_num_threads() == seen_by_a_thread() == 3


def test_one_thread_is_the_calling_one(three_threads):
    with own_threads(1) as threads:
        assert threads.call(threading.current_thread) is threading.current_thread()
        assert threads.call(torch.get_num_threads) == 3


def test_tensors_of_inference_mode_can_be_written():
    with torch.inference_mode():
        values = torch.zeros(3)
        with own_threads(2) as threads:
            threads.call(lambda: values.add_(1))

    assert values.tolist() == [1, 1, 1]


def test_an_error_ends_the_work(three_threads):
    def work(item):
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"), own_threads(2) as threads:
        list(threads.map(work, range(1000)))


def test_threads_that_cannot_start_are_an_error(three_threads, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError), own_threads(2):
        pass

    assert torch.get_num_threads() == 3

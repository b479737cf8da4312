"""Freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

_COUNT_PAGES = """
import ctypes, resource
from examples.trainer.memory import keep_freed_memory

{begin}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def step():
    blocks = [libc.malloc(2**22) for _ in range(20)]
    for block in blocks:
        ctypes.memset(block, 1, 2**22)
    for block in reversed(blocks):
        libc.free(block)

step()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _new_pages(begin: str) -> int:
    """Pages that the system hands to a process in a step that takes 80 MB and frees them."""
    code = _COUNT_PAGES.format(begin=begin)
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_a_step_gets_the_memory_of_the_one_before() -> None:
    assert _new_pages("") > 10_000
    assert _new_pages("keep_freed_memory()") < 100

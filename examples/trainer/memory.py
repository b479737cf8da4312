"""Memory that a run frees and takes again at every step."""

import ctypes

# of mallopt, in glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 2**30  # bytes at the end of the heap that stay with the process
_FROM_HEAP = 2**25  # the largest size that glibc accepts


def keep_freed_memory() -> None:
    """Let the process keep up to 1 GB of freed memory, where its allocator is glibc's.

    A training step on a CPU frees its activations at the end. By default they go back to the
    system, which clears every page before the next step gets it again: a tenth of the time of a
    small step. Other allocators stay as they are.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return

    set_option(_TRIM_THRESHOLD, _KEPT)
    set_option(_MMAP_THRESHOLD, _FROM_HEAP)

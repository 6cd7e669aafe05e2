"""Time and memory limits for decoding one image, both enforced by the kernel.

A decoder that hangs may hold Python's lock, so nothing in Python could stop it. The kernel's
alarm ends the process, and the block is retried in isolation (see bisection.py). A decoder
that allocates without end reaches a limit of its process, before the machine is out of memory. The
limit is a small image's, or the room that a large image got on this node (see memory_budget.py).
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: More than any format takes, see pipeline/images/cost.py.
BYTES_A_PIXEL: Final = 32
#: Reads in flight and everything else that the process does at the same time.
MEMORY_BESIDE: Final = 2**30


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End this process (SIGALRM) if the block takes longer; costs two system calls otherwise."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def time_limit_paused() -> Iterator[None]:
    """Pause the clock of `time_limit` within the block, if one is running."""
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)


@contextmanager
def more_memory_allowed(size: int) -> Iterator[None]:
    """Within the block, allow `size` bytes more than `memory_limit` did; no effect
    without a limit."""
    with _data_limit(lambda now: None if now is None else now + size):
        yield


def image_memory(max_pixels: int, max_bytes: int) -> int:
    """Bytes that decoding may allocate without asking for room: enough for every image in the
    limits."""
    return max_pixels * BYTES_A_PIXEL + max_bytes + MEMORY_BESIDE


@contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Within the block this process may allocate `size` bytes more; then MemoryError.

    Linux counts private memory only, so shared maps (Ray's object store) are free. Other systems
    have no limit.
    """
    with _data_limit(lambda _: _private_memory() + size):
        yield


@contextmanager
def _data_limit(limit_of: Callable[[int | None], int | None]) -> Iterator[None]:
    """Within the block, set RLIMIT_DATA to the result of `limit_of`, if the hard limit allows that.

    None means no limit. Does nothing if no limit is wanted, or on systems other than Linux.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = limit_of(None if soft == resource.RLIM_INFINITY else soft)
    if wanted is None:
        yield
        return
    bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _private_memory() -> int:
    """The value that Linux compares with RLIMIT_DATA: VmData of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))

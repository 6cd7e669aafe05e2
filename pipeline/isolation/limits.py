"""What one image may take of its process, in time and in memory; the kernel holds it to both.

A decoder that hangs may hold Python's lock, so nothing in Python could stop it: the kernel's
alarm ends the process, and the block is tried again carefully (see bisection.py). A decoder
that allocates without end meets a limit of its process, and not the machine's last page: a small
image's, or what a large one was given of the node (see memory_budget.py).
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: More than any format takes, see pipeline/images/cost.py.
BYTES_A_PIXEL: Final = 32
#: Reads in flight and whatever else the process does meanwhile.
MEMORY_BESIDE: Final = 2**30


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End this process (SIGALRM) if the block takes longer; two system calls if it does not."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def time_stands() -> Iterator[None]:
    """The clock of `time_limit` stands within the block, where one runs."""
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)


@contextmanager
def allowed_more(size: int) -> Iterator[None]:
    """Within the block, `size` bytes more than `memory_limit` says; nothing where none holds."""
    with _data_limit(lambda now: None if now is None else now + size):
        yield


def image_memory(max_pixels: int, max_bytes: int) -> int:
    """Bytes that decoding may allocate that asks nobody: enough for every image in the limits."""
    return max_pixels * BYTES_A_PIXEL + max_bytes + MEMORY_BESIDE


@contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Within the block this process may allocate `size` bytes more; then MemoryError.

    Linux counts private memory only, so shared maps (Ray's object store) are free. Nothing
    is limited elsewhere.
    """
    with _data_limit(lambda _: _private_memory() + size):
        yield


@contextmanager
def _data_limit(limit_of: Callable[[int | None], int | None]) -> Iterator[None]:
    """Within the block RLIMIT_DATA is what `limit_of` makes of it, if the hard limit allows that.

    None is no limit. Does nothing where that is asked for, or where the system is not Linux.
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
    """What RLIMIT_DATA is held against: VmData of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))

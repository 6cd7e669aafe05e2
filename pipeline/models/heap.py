"""The memory of a process that labels: what one batch needed stays for the next.

The layers of a network make and drop results of 10 to 100 MB each. glibc hands memory of that size
back to the kernel when it is dropped, and gets it back page by page, each filled with zeros. And
a walk through it looks up the place of every page: pages of 2 MiB are 512 times fewer.
"""

import ctypes
import gc
import mmap
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

#: mallopt(3), glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Bytes: more than a batch's largest result, and the most that mallopt's int can say.
_LARGE, _ALL = 1 << 30, (1 << 31) - 1
#: Bytes: of address space, which takes no memory until it is used.
_ROOM, _LARGE_PAGE = 1 << 29, 1 << 21


@lru_cache(maxsize=1)
def keep_heap() -> bool:
    """Let this process keep the memory that it drops; whether its C library can.

    It then stays as large as it ever was, which a worker's next batch would make it anyhow.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    kept = [libc.mallopt(_MMAP_THRESHOLD, _LARGE), libc.mallopt(_TRIM_THRESHOLD, _ALL)]
    _grow_by_large_pages(libc)
    return all(kept)


def _grow_by_large_pages(libc: ctypes.CDLL) -> None:
    """Let the next that the heap uses lie in pages of 2 MiB, where the kernel gives such."""
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if (room := libc.malloc(_ROOM)) is None:
        return
    first = -(-room // _LARGE_PAGE) * _LARGE_PAGE
    libc.madvise(first, room + _ROOM - first, mmap.MADV_HUGEPAGE)
    libc.free(room)


@contextmanager
def for_good() -> Iterator[None]:
    """What is made meanwhile stays: Python never looks for garbage in it.

    Importing torch and transformers makes some 400,000 objects. To look through them while they
    grow takes a sixth of the time of loading a model, and a quarter of a second once they are
    there. For the one model of a process: what was garbage before stays too.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if before:
            gc.enable()

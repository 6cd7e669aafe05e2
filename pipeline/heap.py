"""The memory of a process that decodes or labels: what one batch needed stays for the next.

The layers of a network make and drop results of 10 to 100 MB each, and so do the decoders of
photographs. glibc hands memory of that size back to the kernel when it is dropped, and gets it back
page by page, each filled with zeros: a fifth of the time of decoding large photographs.

But glibc gives a process of many threads many heaps, up to eight a core, and what lies unused in
one is of no use to another: photographs' bytes, read by 32 threads, fill all of them. With
`ONE_HEAP` in its environment, a process has one for all.
"""

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

#: mallopt(3), glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Bytes: more than a batch's largest result, and the most that mallopt's int can say.
_LARGE, _ALL = 1 << 30, (1 << 31) - 1
#: Bytes of the largest block that a decoder keeps, 22 megapixels, and of all that it keeps unused
#: at the heap's end: it sees images of every size, and must not stay as large as one made it.
_PHOTOGRAPH, _PHOTOGRAPHS = 1 << 26, 1 << 28

#: Read by glibc when a process starts; others take no notice.
ONE_HEAP: Final = {"MALLOC_ARENA_MAX": "1"}


@lru_cache(maxsize=1)
def keep_heap() -> bool:
    """Let this process keep the memory that it drops; whether its C library can.

    It then stays as large as it ever was, which a worker's next batch would make it anyhow.
    """
    return _keep(_LARGE, _ALL)


@lru_cache(maxsize=1)
def keep_photographs() -> bool:
    """Let this process keep what images of usual sizes need; whether its C library can."""
    return _keep(_PHOTOGRAPH, _PHOTOGRAPHS)


def give_back() -> None:
    """Let the kernel have what this process dropped, where its C library can."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _keep(block: int, unused: int) -> bool:
    """Blocks of up to `block` bytes come from the heap, which keeps so many `unused` bytes.

    An older glibc refuses large blocks, and is left as it is: to set only the other would end
    its own adapting.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_MMAP_THRESHOLD, block) and libc.mallopt(_TRIM_THRESHOLD, unused))


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

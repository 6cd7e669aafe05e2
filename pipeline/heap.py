"""Heap settings (glibc): a process that decodes or labels keeps one batch's memory for the next.

The layers of a network create and drop results of 10 to 100 MB each, and so do decoders of
photographs. glibc returns blocks of that size to the kernel when they are freed, and gets them back
page by page, each filled with zeros: a fifth of the time of decoding large photographs.

But glibc gives a process with many threads many heaps, up to eight a core, and free memory in
one cannot be used by another: the bytes of photographs, read by 32 threads, fill all of them. With
`ONE_HEAP` in its environment, a process has one heap for all threads.
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
#: Bytes: more than a batch's largest result, and the maximum of mallopt's int.
_LARGE, _ALL = 1 << 30, (1 << 31) - 1
#: Bytes of the largest block that a decoder keeps, 22 megapixels, and of all unused memory that it
#: keeps at the heap's end: it decodes images of every size, and must not stay as large as the
#: largest.
_PHOTOGRAPH, _PHOTOGRAPHS = 1 << 26, 1 << 28

#: glibc reads it when a process starts; other C libraries ignore it.
ONE_HEAP: Final = {"MALLOC_ARENA_MAX": "1"}


@lru_cache(maxsize=1)
def keep_heap() -> bool:
    """Let this process keep the memory that it frees; returns whether its C library supports that.

    It then stays at its largest size, which a worker's next batch would need anyway.
    """
    return _keep(_LARGE, _ALL)


@lru_cache(maxsize=1)
def keep_photographs() -> bool:
    """Keep what images of usual sizes need; returns whether the C library supports that."""
    return _keep(_PHOTOGRAPH, _PHOTOGRAPHS)


def give_back() -> None:
    """Return freed memory of this process to the kernel, if its C library supports that."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _keep(block: int, unused: int) -> bool:
    """Blocks of up to `block` bytes come from the heap, which keeps this many `unused` bytes.

    An older glibc refuses large blocks, and is then left unchanged: setting only the other value
    would end its own adaptation.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_MMAP_THRESHOLD, block) and libc.mallopt(_TRIM_THRESHOLD, unused))


@contextmanager
def for_good() -> Iterator[None]:
    """Objects made within the block are permanent: the garbage collector never visits them.

    Importing torch and transformers makes some 400,000 objects. Visiting them while they are
    created takes a sixth of the time of loading a model, and a quarter of a second afterwards. For
    the one model of a process; earlier garbage stays too.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if before:
            gc.enable()

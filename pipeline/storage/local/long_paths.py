"""Local files whose paths are too long for one call of the operating system."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Linux's PATH_MAX is 4,096 bytes, with the NUL at the end.
LONGEST: Final = 4095
_LONGEST_NAME: Final = 255
#: Passing through a folder needs no right to read it.
_PASS: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


def fits(path: str) -> bool:
    """Whether the system accepts `path` in one call."""
    return len(path) <= LONGEST // 4 or len(os.fsencode(path)) <= LONGEST


@contextmanager
def scan(folder: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """`os.scandir` for a `folder`, a path that ends in `/`, of any length. Raises OSError.

    If a file's path may not fit, its entry gives no facts after the scan: call `stat`.
    """
    if fits(folder + "x" * _LONGEST_NAME):
        with os.scandir(folder) as found:
            yield found
        return
    handle = open_file(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(handle) as found:
            yield found
    finally:
        os.close(handle)


def open_file(path: str, flags: int) -> int:
    """`os.open` for a path of any length. Raises OSError."""
    if fits(path):
        return os.open(path, flags)
    with _parent(path) as (parent, name):
        return os.open(name, flags, dir_fd=parent)


def stat(path: str) -> os.stat_result:
    """`os.stat` for a path of any length. Raises OSError."""
    if fits(path):
        return os.stat(path)  # noqa: PTH116
    with _parent(path) as (parent, name):
        return os.stat(name, dir_fd=parent)


@contextmanager
def _parent(path: str) -> Iterator[tuple[int, str]]:
    """(an open folder, the rest of `path` from there), which fits."""
    handle, rest = -1, path
    try:
        while not fits(rest):
            # A quarter, since `fits` counts bytes and this counts characters of up to four.
            cut = rest.rfind("/", 1, LONGEST // 4) + 1
            if not cut:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            step, rest = rest[:cut], rest[cut:].lstrip("/")
            deeper = os.open(step, _PASS, dir_fd=None if handle < 0 else handle)
            if handle >= 0:
                os.close(handle)
            handle = deeper
        yield handle, rest
    finally:
        if handle >= 0:
            os.close(handle)

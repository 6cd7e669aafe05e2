"""Memory locks: all processes of a user on a node share memory, by locks on bytes of a file.

Each byte stands for 64 MiB. A process that needs memory takes the *turn* (the first byte), waits
until enough bytes are free, locks them and passes the turn on. So no process holds a part while it
waits for the rest, and smaller images cannot overtake a large one forever. The kernel releases the
locks of a process that ends, however it ends; nothing is left to clean up.
"""

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from tempfile import gettempdir
from threading import Lock
from typing import Final

from pipeline.errors import PlacementError

UNIT: Final = 64 * 2**20
#: Seconds between two checks for free memory: short compared with the time for a large image.
LOOK_SECONDS: Final = 0.01

_FILE: Final = "memory"
#: A lock belongs to a process, so its threads take turns here.
_one_at_a_time = Lock()


@contextmanager
def units(wanted: int, total: int) -> Iterator[None]:
    """Hold `wanted` of `total` units within the block (at most all of them); waits until they are
    free.

    Raises PlacementError if no private folder can be made.
    """
    with _one_at_a_time:
        file = lock_file()
        taken: list[int] = []
        try:
            _take(file, taken, min(wanted, total), total)
            yield
        finally:
            for unit in taken:
                fcntl.lockf(file, fcntl.LOCK_UN, 1, unit)


def _take(file: int, taken: list[int], wanted: int, total: int) -> None:
    fcntl.lockf(file, fcntl.LOCK_EX, 1, 0)
    try:
        while True:
            for unit in range(1, total + 1):
                if len(taken) == wanted:
                    return
                if unit not in taken and _free(file, unit):
                    taken.append(unit)
            if len(taken) < wanted:
                time.sleep(LOOK_SECONDS)
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, 0)


def _free(file: int, unit: int) -> bool:
    """Lock `unit` if it is free; returns whether it is ours now."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, unit)
    except (BlockingIOError, PermissionError):
        return False
    return True


@lru_cache(maxsize=1)
def lock_file() -> int:
    """The lock file of this user on this node, open for the life of the process.

    It is opened once: closing it would release all locks on it.
    """
    name = f"nightlabel-{os.geteuid()}"
    folders = [Path("/dev/shm"), Path(gettempdir())]  # noqa: S108 - not trusted, see _opened
    for folder in folders:
        with suppress(OSError):
            return _opened(folder / name)
    found = " or ".join(str(folder / name) for folder in folders)
    raise PlacementError(
        f"decoders share memory by locks in {found}, and neither is a folder that only this user "
        "may enter: remove what is there, or set TMPDIR to another folder"
    )


def _opened(folder: Path) -> int:
    """Raises OSError if `folder`, or the file in it, is a link or may belong to another user."""
    with suppress(FileExistsError):
        folder.mkdir(0o700)
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _must_be_ours(os.fstat(place), stat.S_IFDIR)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        file = os.open(_FILE, flags, 0o600, dir_fd=place)
    finally:
        os.close(place)
    try:
        _must_be_ours(os.fstat(file), stat.S_IFREG)
    except OSError:
        os.close(file)
        raise
    return file


def _must_be_ours(found: os.stat_result, kind: int) -> None:
    private = not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    if stat.S_IFMT(found.st_mode) != kind or found.st_uid != os.geteuid() or not private:
        raise PermissionError("another user may enter it")

"""A local file that the user named, in a folder that others may write to as well."""

import os
import stat as modes
from pathlib import Path
from typing import BinaryIO, Final

from pipeline.errors import StoreError
from pipeline.storage.local.beneath import PASS, is_link

_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


def open_to_append(path: Path) -> BinaryIO:
    """The file at `path`, created if it is missing, unbuffered. Raises OSError.

    Raises StoreError for a symbolic link, or a file of several names (hard links), in a folder that
    others may write to: whoever created it meant another file. A link in a folder that only this
    user or root can change is followed, as are links on the way to the folder.
    """
    folder = os.open(path.parent, PASS)
    try:
        if _only_ours(folder):
            handle = os.open(path.name, _APPEND, 0o666, dir_fd=folder)
        else:
            handle = _open_strictly(path, folder)
    finally:
        os.close(folder)
    return os.fdopen(handle, "ab", buffering=0)


def _open_strictly(path: Path, folder: int) -> int:
    try:
        handle = os.open(path.name, _APPEND | os.O_NOFOLLOW, 0o666, dir_fd=folder)
    except OSError:
        if not is_link(path.name, folder):
            raise
        raise _refused(path, "is a symbolic link") from None
    status = os.fstat(handle)
    if modes.S_ISREG(status.st_mode) and status.st_nlink > 1:
        os.close(handle)
        raise _refused(path, "has other names too (hard links)")
    return handle


def _only_ours(folder: int) -> bool:
    """Whether only this user and root can add entries to an open folder."""
    status = os.fstat(folder)
    others = modes.S_IWGRP | modes.S_IWOTH
    return status.st_uid in {0, os.geteuid()} and not status.st_mode & others


def _refused(path: Path, problem: str) -> StoreError:
    return StoreError(
        f"{path} {problem}, and others may write to its folder; name the file itself, or one in a "
        "folder of your own"
    )

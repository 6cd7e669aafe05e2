"""Private folders of this machine, which no other user can change: caches, scratch files, sockets.

A path is walked from the root, link by link. Each folder on it must belong to root or to this
user and be closed to other writers, unless it is sticky, as `/tmp` is. Then nobody else can
replace a folder that was checked, so opening it later by its path gives the same folder.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from pipeline.errors import UnsafeFolderError

_MAX_LINKS: Final = 40
_ACL: Final = "system.posix_acl_access"


def private_folder(path: Path, instead: str) -> Path:
    """The folder at `path` with links resolved, of mode 0700; created, with its parents, if
    missing.

    Raises UnsafeFolderError if another user owns it, could write to it or could replace it;
    its message ends with `instead`, an alternative. Raises OSError if it can't be created.
    """
    folder = _walk(path, instead, make=True)
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise _foreign(folder, found, instead)
    if _writers(folder, found):
        raise _open(folder, found, "remove it", instead)
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)
    return folder


def guarded_folder(path: Path, instead: str) -> Path:
    """The folder at `path` with links resolved, which exists and which others may read.

    Raises UnsafeFolderError as `private_folder` does, but root may own it; FileNotFoundError.
    """
    folder = _walk(path, instead, make=False)
    found = folder.stat()
    if _writers(folder, found):  # sticky or not: files can be added to it
        raise _open(folder, found, "remove it", instead)
    return folder


def _walk(path: Path, instead: str, *, make: bool) -> Path:
    """`path` with links resolved, each folder on it checked; `make` creates missing ones."""
    here, links = Path("/"), 0
    left = [*reversed(path.absolute().parts)]
    while left:
        if (name := left.pop()) == "..":
            here = here.parent
            continue
        there = here / name
        found = _made(there) if make else there.lstat()
        if found.st_uid not in _trusted():
            raise _foreign(there, found, instead)
        if stat.S_ISLNK(found.st_mode):
            if (links := links + 1) > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            left += reversed(there.readlink().parts)
        elif not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
        else:
            last = not left  # the caller requires more of it
            if not last and not found.st_mode & stat.S_ISVTX and _writers(there, found):
                raise _open(there, found, f"chmod go-w {there}", instead)
            here = there
    return here


def _made(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except FileNotFoundError:
        path.mkdir(mode=0o700, exist_ok=True)  # of another process, or another user: checked next
        return path.lstat()


def _trusted() -> frozenset[int]:
    """Root and this user, and in a user namespace the id of root there."""
    return frozenset({0, os.geteuid()} | _root_outside())


def _root_outside() -> set[int]:
    """The owner that a user namespace shows for unknown users, if root is one of them."""
    try:
        lines = Path("/proc/self/uid_map").read_text().splitlines()
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return set()
    return set() if any(line.split()[0] == "0" for line in lines) else {overflow}


def _writers(path: Path, found: os.stat_result) -> int:
    """The mode bits that let other users write, except those of root's group or the user's own
    group."""
    writers = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if writers & stat.S_IWGRP and not _has_acl(path) and _is_own_group(found.st_gid):
        writers &= ~stat.S_IWGRP
    return writers


def _is_own_group(gid: int) -> bool:
    """Whether a group is root's, or the private group that many systems make for each user."""
    import grp
    import pwd

    if gid == 0:
        return True
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    own = user.pw_gid == gid and user.pw_name == group.gr_name
    return own and not set(group.gr_mem) - {user.pw_name}


def _has_acl(path: Path) -> bool:
    try:
        return _ACL in os.listxattr(path)
    except (AttributeError, OSError):  # a system, or a file system, without
        return False


def _foreign(path: Path, found: os.stat_result, instead: str) -> UnsafeFolderError:
    return UnsafeFolderError(
        f"{path} belongs to another user (uid {found.st_uid}), who could change what is kept in "
        f"it; {instead}"
    )


def _open(path: Path, found: os.stat_result, fix: str, instead: str) -> UnsafeFolderError:
    return UnsafeFolderError(
        f"other users can write to {path} (mode {stat.S_IMODE(found.st_mode):04o}), so what is "
        f"kept in it may be theirs; {fix}, or {instead}"
    )

"""Lists local files in the order of their full names, as a bucket store does."""

import errno
import os
import stat as modes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline.storage.entry import Entry, moment
from pipeline.storage.local import long_paths

#: Errors of an entry that is gone, or of a broken or circular symlink.
_NOTHING_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


@dataclass(frozen=True, slots=True)
class Visit:
    """Callbacks of a walk: before it opens a folder, and for what it could not list.

    Both take a uri; a folder's ends in `/`. A folder that is not entered is not opened.
    """

    enter: Callable[[str], bool]
    unreadable: Callable[[str, str], None]


def walk(
    prefix: str,
    after: str | None,
    until: str | None,
    *,
    deep: bool = True,
    visit: Visit | None = None,
) -> Iterator[Entry]:
    """Regular files whose path begins with `prefix`, in (after, until], sorted by path.

    `a.jpg` comes before `a/b.jpg`, as `.` does before `/`. Symlinked folders are followed, but not
    into a folder that contains them. Paths may have any length. What cannot be listed is reported
    to `visit`; without `visit` it raises OSError.
    """
    yield from _Walk(prefix, after or "", until, deep, visit).files()


def is_folder(path: str) -> bool:
    """Raises OSError if that cannot be determined."""
    try:
        return modes.S_ISDIR(long_paths.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def check_folder(path: str) -> None:
    """Raises OSError if a folder, a path that ends in `/`, cannot be listed."""
    with long_paths.scan(path) as found:
        next(found, None)


@dataclass(frozen=True, slots=True)
class _Level:
    """A folder during the walk; `names` are those that are left."""

    identity: tuple[int, int]
    path: str
    names: Iterator[tuple[str, os.DirEntry[str]]]


@dataclass(frozen=True, slots=True)
class _Walk:
    prefix: str
    after: str
    until: str | None
    deep: bool
    visit: Visit | None

    def files(self) -> Iterator[Entry]:
        # An explicit stack: a recursive generator fails at some 1,000 folders.
        levels = self._top()
        while levels:
            path, entry = next(levels[-1].names, ("", None))
            if entry is None or (self.until is not None and path > self.until):
                levels.pop()
            elif not path.startswith(self.prefix):
                continue
            elif path.endswith("/"):
                if self._is_wanted(path):
                    levels += self._opened(path, levels)
            elif path > self.after and (found := self._entry(levels, path, entry)):
                yield found

    def _top(self) -> list[_Level]:
        folder = self.prefix.rpartition("/")[0] + "/"
        try:
            there = is_folder(folder)
        except OSError as error:
            self._refused(folder, error)
            return []
        return self._opened(folder, []) if there else []

    def _is_wanted(self, folder: str) -> bool:
        inside = folder > self.after or self.after.startswith(folder)
        return self.deep and inside and (self.visit is None or self.visit.enter(_uri(folder)))

    def _opened(self, folder: str, above: list[_Level]) -> list[_Level]:
        try:
            status = long_paths.stat(folder)
            identity = (status.st_dev, status.st_ino)
            if any(level.identity == identity for level in above):
                return []
            return [_Level(identity, folder, iter(_sorted(folder)))]
        except OSError as error:
            self._refused(folder, error)
            return []

    def _entry(self, levels: list[_Level], path: str, entry: os.DirEntry[str]) -> Entry | None:
        try:
            status = entry.stat() if long_paths.fits(path) else long_paths.stat(path)
        except OSError as error:
            if error.errno == errno.EACCES and not _is_link(entry):
                # Its folder allows reading names and nothing else.
                self._refused(levels.pop().path, error)
            elif error.errno not in _NOTHING_THERE:
                self._refused(path, error)
            return None
        if not modes.S_ISREG(status.st_mode):
            return None
        return Entry(_uri(path), status.st_size, None, utc(status.st_mtime_ns))

    def _refused(self, path: str, error: OSError) -> None:
        if self.visit is None:
            raise error
        self.visit.unreadable(_uri(path), (error.strerror or str(error)).lower())


def _uri(path: str) -> str:
    return f"file://{path}"


def _sorted(folder: str) -> list[tuple[str, os.DirEntry[str]]]:
    with long_paths.scan(folder) as found:
        names = [(f"{folder}{e.name}/" if _is_dir(e) else folder + e.name, e) for e in found]
    return sorted(names, key=lambda pair: pair[0])


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symlink to nothing, or to a place we may not read: `_entry` reports it
        return False


def _is_link(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink()
    except OSError:  # a file system that gives names without kinds
        return False


def utc(nanoseconds: int) -> datetime:
    """A file's time, exact to the microsecond (a float of seconds is not)."""
    return moment(nanoseconds // 1000)

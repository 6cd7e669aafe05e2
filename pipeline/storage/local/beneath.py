"""Access to files below one local folder that never follows a link; others may write there too.

A path is walked from one open folder to the next, so a folder that is swapped for
a link, at any time, has no effect. The folder itself may be a link. New bytes always go to a new
file, which is then renamed: a link or a hard link of that name is replaced, never written to.
"""

import errno
import os
import re
import secrets
import stat as modes
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, Final

from pipeline.errors import StoreError
from pipeline.storage.names.uris import public

_FOLDER: Final = os.O_DIRECTORY | os.O_CLOEXEC
#: Passing through a folder needs no right to read it.
PASS: Final = _FOLDER | getattr(os, "O_PATH", os.O_RDONLY)
#: O_NONBLOCK: a named pipe must not hang a run.
_FILE: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW

#: The system's errors for a link that must not be followed.
_LINK: Final = frozenset({errno.ELOOP, errno.EMLINK, errno.ENOTDIR})
_ABSENT: Final = (FileNotFoundError, NotADirectoryError)
#: More nested folders than any of our layouts has.
_DEEPEST: Final = 64
#: Another process may remove an empty folder before a file is in it.
_TRIES: Final = 100

#: A file that is being written, by us or by object_store: `name#1`.
UNFINISHED: Final = re.compile(r"#\d+$")


class _Kind(Enum):
    FILE = 1
    FOLDER = 2
    LINK = 3
    ODD = 4


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file. `etag` changes with every write."""

    path: str
    size: int
    modified_ns: int
    etag: str

    @classmethod
    def of(cls, path: str, status: os.stat_result) -> "Found":
        etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
        return cls(path, status.st_size, status.st_mtime_ns, etag)


@dataclass(frozen=True, slots=True)
class Beneath:
    """The folder at `top`, an absolute path. Paths are relative to it, without dot parts.

    Raises OSError, and StoreError for a path that is a link, leads through one, or is neither a
    file nor a folder.
    """

    top: str

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """A regular file, for reading."""
        with self._parent(path) as (folder, name):
            handle = self._open(path, name, os.O_RDONLY | _FILE, folder)
            with os.fdopen(handle, "rb") as file:
                self._refuse_odd(path, os.fstat(handle))
                yield file

    def stat(self, path: str) -> Found | None:
        """None if there is nothing, or a folder."""
        try:
            with self._parent(path) as (folder, name):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except _ABSENT:
            return None
        if modes.S_ISDIR(status.st_mode):
            return None
        self._refuse_odd(path, status)
        return Found.of(path, status)

    def put(self, path: str, data: bytes) -> None:
        """Write in one step: a reader sees the old bytes or the new ones."""
        with self._written(path, data) as (folder, new, name):
            os.replace(new, name, src_dir_fd=folder, dst_dir_fd=folder)

    def create(self, path: str, data: bytes) -> None:
        """Write in one step. Raises FileExistsError if the name is taken."""
        with self._written(path, data) as (folder, new, name):
            os.link(new, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)

    def replace(self, path: str, data: bytes, etag: str) -> bool:
        """Write if the file still has `etag`: of many at once exactly one gets True."""
        # The operating system has no conditional rename; a lock file replaces it.
        with self.locked(f"{path}.lock"):
            found = self.stat(path)
            if found is None or found.etag != etag:
                return False
            self.put(path, data)
            return True

    @contextmanager
    def locked(self, path: str) -> Iterator[None]:
        """Hold the lock file at `path`, which is created if it is missing and never written to."""
        with self._parent(path) as (folder, name), ExitStack() as stack:

            def opened(access: int) -> int:
                handle = self._open(path, name, access | os.O_CREAT | _FILE, folder)
                stack.callback(os.close, handle)
                self._refuse_odd(path, os.fstat(handle))
                return handle

            _lock(opened)
            yield

    def delete(self, path: str) -> None:
        """Unlink a file, if it is there, and the folders that are then empty."""
        *folders, name = path.split("/")
        with ExitStack() as stack:
            try:
                handles = self._walk(folders, stack)
                os.unlink(name, dir_fd=handles[-1])
            except _ABSENT:
                return
            for folder, above in zip(folders[::-1], handles[-2::-1], strict=True):
                try:
                    os.rmdir(folder, dir_fd=above)
                except OSError:  # it is not empty, or gone
                    break

    def files(self, prefix: str = "", after: str = "") -> Iterator[Found]:
        """The regular files whose path begins with `prefix`, at any depth; paths that sort `after`.

        Skipped: links, what is neither file nor folder, names that are not UTF-8.
        """
        parent, slash, start = prefix.rpartition("/")
        with suppress(*_ABSENT):
            yield from self._files(self.folder(parent), parent + slash, start, after)

    def folder(self, path: str, *, make: bool = False) -> int:
        """A folder opened for reading; "" is the top. The caller closes it."""
        with ExitStack() as stack:
            handle = self._walk(path.split("/") if path else [], stack, make=make)[-1]
            return os.open(".", os.O_RDONLY | _FOLDER, dir_fd=handle)

    def refuse_odd_entries(self, path: str, named: re.Pattern[str] | None = None) -> None:
        """Raises StoreError if anything below the folder is neither a file nor a folder.

        With `named` it checks only entries directly in the folder whose name matches.
        """
        handle = self.folder(path)
        try:
            kinds = _kinds(handle)
        finally:
            os.close(handle)
        above = f"{path}/" if path else ""
        for name, kind in kinds:
            if named is not None and not named.fullmatch(name):
                continue
            if kind in {_Kind.LINK, _Kind.ODD}:
                raise self._odd(above + name, kind)
            if kind is _Kind.FOLDER and named is None:
                with suppress(*_ABSENT):
                    self.refuse_odd_entries(above + name)

    def _files(self, folder: int, above: str, start: str, after: str) -> Iterator[Found]:
        """Files of the open `folder`, which is closed at the end; `above` is its path
        with a slash."""
        try:
            if above.count("/") > _DEEPEST:
                raise StoreError(f"{self._shown(above)}: its folders are nested too deeply")
            kinds = [
                (name, kind)
                for name, kind in _kinds(folder)
                if name.startswith(start) and _is_text(name)
            ]
            for name, kind in kinds:
                wanted = kind is _Kind.FILE and above + name > after
                if wanted and (status := _status(name, folder)):
                    yield Found.of(above + name, status)
            for name, kind in kinds:
                if kind is _Kind.FOLDER:
                    # What is gone or a link by now is skipped.
                    with suppress(*_ABSENT):
                        deeper = os.open(name, os.O_RDONLY | _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                        yield from self._files(deeper, f"{above}{name}/", "", after)
        finally:
            os.close(folder)

    @contextmanager
    def _written(self, path: str, data: bytes) -> Iterator[tuple[int, str, str]]:
        """(its open folder, the name of a new file there that holds `data`, its own name)."""
        with ExitStack() as stack:
            folder, new, name, handle = self._new_file(path, stack)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                yield folder, new, name
            finally:
                with suppress(FileNotFoundError):  # it has its name
                    os.unlink(new, dir_fd=folder)

    def _new_file(self, path: str, stack: ExitStack) -> tuple[int, str, str, int]:
        *folders, name = path.split("/")
        new = f"{name}#{secrets.randbits(48)}"
        for tries in range(_TRIES):
            try:
                folder = self._walk(folders, stack, make=True)[-1]
                return folder, new, name, os.open(new, _NEW, 0o666, dir_fd=folder)
            except FileNotFoundError:
                if tries == _TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """(the open folder of `path`, its name there)."""
        *folders, name = path.split("/")
        with ExitStack() as stack:
            yield self._walk(folders, stack)[-1], name

    def make(self) -> None:
        """Make the top folder. Raises StoreError where a file has its name."""
        try:
            os.makedirs(self.top, exist_ok=True)  # noqa: PTH103 - one call, made each time
        except FileExistsError:
            raise StoreError(f"{self.top} is a file: give a folder") from None

    def _walk(self, folders: Sequence[str], stack: ExitStack, *, make: bool = False) -> list[int]:
        """The top and the folders below it, each opened from the one above; `stack` closes them."""
        if make:
            self.make()
        handles = [os.open(self.top, PASS)]
        stack.callback(os.close, handles[0])
        for depth, name in enumerate(folders, 1):
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=handles[-1])
            path = "/".join(folders[:depth])
            handles.append(self._open(path, name, PASS | os.O_NOFOLLOW, handles[-1]))
            stack.callback(os.close, handles[-1])
        return handles

    def _open(self, path: str, name: str, flags: int, folder: int) -> int:
        try:
            return os.open(name, flags, 0o666, dir_fd=folder)
        except OSError as error:
            if error.errno in _LINK and is_link(name, folder):
                raise self._odd(path, _Kind.LINK) from None
            raise

    def _refuse_odd(self, path: str, status: os.stat_result) -> None:
        if not modes.S_ISREG(status.st_mode):
            raise self._odd(path, _Kind.LINK if modes.S_ISLNK(status.st_mode) else _Kind.ODD)

    def _odd(self, path: str, kind: _Kind) -> StoreError:
        if kind is _Kind.LINK:
            problem = "is a symbolic link, and none is followed here; put a file or folder there"
        else:
            problem = "is not a regular file; remove it"
        return StoreError(f"{self._shown(path)} {problem}")

    def _shown(self, path: str) -> str:
        return public(f"file://{self.top}/{path}")


def _kinds(folder: int) -> list[tuple[str, _Kind]]:
    """The kinds of the entries in an open folder, by name."""
    with os.scandir(folder) as found:
        return [(entry.name, _kind(entry)) for entry in found]


def _kind(entry: "os.DirEntry[str]") -> _Kind:
    if entry.is_symlink():
        return _Kind.LINK
    if entry.is_dir(follow_symlinks=False):
        return _Kind.FOLDER
    return _Kind.FILE if entry.is_file(follow_symlinks=False) else _Kind.ODD


def _is_text(name: str) -> bool:
    """False for a name that is not UTF-8."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _status(name: str, folder: int) -> os.stat_result | None:
    """Status of a regular file; None if it is gone, or something else by now."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except _ABSENT:
        return None
    return status if modes.S_ISREG(status.st_mode) else None


def is_link(name: str, folder: int) -> bool:
    """Whether a name in an open folder is a link."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except _ABSENT:
        return False
    return modes.S_ISLNK(status.st_mode)


def _lock(opened: Callable[[int], int]) -> None:
    import fcntl

    try:
        fcntl.flock(opened(os.O_RDONLY), fcntl.LOCK_EX)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        fcntl.flock(opened(os.O_RDWR), fcntl.LOCK_EX)  # NFS can lock only what is open for writing

"""A listing of local files in the order of their full names, as a bucket store gives it."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pipeline.storage.entry import Entry

EPOCH = datetime.fromtimestamp(0, UTC)


def walk(
    prefix: str, after: str | None, until: str | None, *, deep: bool = True
) -> Iterator[Entry]:
    """Regular files whose path begins with `prefix`, in (after, until], sorted by path.

    `a.jpg` comes before `a/b.jpg`, as `.` does before `/`. Symlinked folders are followed, but
    not into a folder that holds them. Raises OSError for a folder that cannot be read.
    """
    folder = prefix.rpartition("/")[0] + "/"
    if is_folder(folder):
        yield from _walk(folder, prefix, after or "", until, deep, frozenset())


def is_folder(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - pathlib costs more, here and below


def _walk(
    folder: str,
    prefix: str,
    after: str,
    until: str | None,
    deep: bool,
    above: frozenset[tuple[int, int]],
) -> Iterator[Entry]:
    seen = os.stat(folder)  # noqa: PTH116
    identity = (seen.st_dev, seen.st_ino)
    if identity in above:
        return
    for path, entry in _sorted(folder):
        if not (path.startswith(prefix) or prefix.startswith(path)):
            continue
        if until is not None and path > until:
            return
        if path.endswith("/"):
            if deep and (path > after or after.startswith(path)):
                yield from _walk(path, prefix, after, until, deep, above | {identity})
        elif path > after and (found := _entry(path, entry)):
            yield found


def _sorted(folder: str) -> list[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as found:
        names = [(f"{folder}{e.name}/" if _is_dir(e) else folder + e.name, e) for e in found]
    return sorted(names, key=lambda pair: pair[0])


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symlink to itself
        return False


def _entry(path: str, entry: os.DirEntry[str]) -> Entry | None:
    try:
        if not entry.is_file():
            return None
        status = entry.stat()
    except OSError:  # gone since, or a symlink to itself
        return None
    return Entry(f"file://{path}", status.st_size, None, utc(status.st_mtime_ns))


def utc(nanoseconds: int) -> datetime:
    """A file's time, exact to the microsecond (a float of seconds is not)."""
    return EPOCH + timedelta(microseconds=nanoseconds // 1000)

"""The files of a table's Delta log: finds those that mention an object, and removes them.

A Delta log holds the least and the greatest uri of each file it adds, in commits and again in
checkpoints. A version is read from a checkpoint and the commits after it. So only the beginning of
the log can be removed, up to a checkpoint that mentions nothing. It is removed from the oldest file
on, one at a time: if the process dies, the result is a shorter log.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import unquote

from pipeline.errors import StoreError
from pipeline.storage import Folder, public
from pipeline.store.delta.guard import LOG as LOG
from pipeline.store.delta.guard import LOG_FILE_BYTES, open_checkpoint
from pipeline.store.names import is_ours
from pipeline.store.parts import UNREADABLE, bounds_of_text

#: What Delta keeps of a log unless the table says something else.
_RETENTION: Final = "interval 30 days"
_INTERVAL: Final = re.compile(r"interval (\d{1,6}) (second|minute|hour|day|week)s?")

#: Rows of a checkpoint that become Python objects at once.
_ACTIONS: Final = 1024
_VERSIONED: Final = re.compile(r"_delta_log/(\d{20})\.(.+)")


@dataclass(frozen=True, slots=True, order=True)
class LogFile:
    """One file of the log. `version` is -1 for a temporary file that a dead writer left."""

    version: int
    is_checkpoint: bool
    path: str


@dataclass(frozen=True, slots=True)
class Traces:
    """Traces of objects in a log: files that hold their rows, and their names as bounds.

    `bounds` are of the columns uri and member. Bounds of long names are cut, so they may match by
    chance; a bound of a file that was read and is `clean` belongs to another object.
    """

    files: Set[str]
    clean: Set[str]
    bounds: Set[tuple[str, str]]

    @classmethod
    def of(
        cls,
        files: Set[str],
        clean: Set[str],
        uris: Iterable[str],
        members: Iterable[str] = (),
    ) -> "Traces":
        named = [("uri", uri) for uri in uris] + [("member", member) for member in members]
        bounds = {(column, bound) for column, name in named for bound in bounds_of_text(name)}
        return cls(files, clean, bounds)

    def in_action(self, action: Mapping[str, Any]) -> bool:
        path = unquote(action.get("path") or "")
        if path in self.files or path in self.clean:
            return path in self.files
        return not self.bounds.isdisjoint(_name_bounds(action))


def log_files(folder: Folder) -> list[LogFile]:
    """The commits and checkpoints of a log, the oldest first, a commit before its checkpoint.

    Files with other names are left out.
    """
    return _log_files(folder.relative(entry.uri) for entry in folder.list(LOG))


def _log_files(names: Iterable[str]) -> list[LogFile]:
    ours = (name for name in names if is_ours(name) and not name.endswith("/_last_checkpoint"))
    return sorted(map(_log_file, ours))


def oldest_version(folder: Folder) -> int:
    """The oldest version that the log can still give; -1 if there is no log."""
    files = log_files(folder)
    if any(file.version == 0 and not file.is_checkpoint for file in files):
        return 0
    return min((file.version for file in files if file.is_checkpoint), default=-1)


def files_with_traces(folder: Folder, traces: Traces) -> list[LogFile]:
    """The files of the log with a trace of the objects."""
    return [file for file in log_files(folder) if _has_trace(folder, file, traces)]


def remove_up_to_the_last(folder: Folder, traced: Sequence[LogFile]) -> int:
    """Delete the beginning of the log, up to the last of `traced`; returns how many files.

    There must be a checkpoint after the last of them.
    """
    files = log_files(folder)
    last = max(file.version for file in traced)
    clean = [file.version for file in files if file.is_checkpoint and file.version > last]
    if not clean:
        raise StoreError(f"{public(folder.uri)}: its Delta log has no checkpoint after {last}")
    before = min(clean) if last >= 0 else 0
    temporary = {file.path for file in traced if file.version < 0}
    gone = [file for file in files if 0 <= file.version < before or file.path in temporary]
    for file in gone:  # one by one, the oldest first: a bulk request has no order
        folder.delete([file.path])
    return len(gone)


def remove_expired(folder: Folder, configuration: Mapping[str, str | None]) -> None:
    """Delete what the table's configuration lets expire, of a log on local disk, the oldest first.

    The remaining log begins with a checkpoint, as Delta's protocol asks ("Metadata Cleanup").
    """
    retention = _INTERVAL.fullmatch(configuration.get("delta.logRetentionDuration") or _RETENTION)
    if retention is None or configuration.get("delta.enableExpiredLogCleanup") == "false":
        return
    modified = {folder.relative(entry.uri): entry.modified for entry in folder.list(LOG)}
    keep = timedelta(**{f"{retention[2]}s": int(retention[1])})
    since = max(modified.values()) - keep
    old = [file for file in _log_files(modified) if modified[file.path] < since]
    first = max((file.version for file in old if file.is_checkpoint), default=-1)
    for file in old:
        if 0 <= file.version < first:
            folder.delete([file.path])


def _log_file(name: str) -> LogFile:
    found = _VERSIONED.fullmatch(name)
    if found is None:
        return LogFile(-1, False, name)
    return LogFile(int(found[1]), found[2].startswith("checkpoint"), name)


def _has_trace(folder: Folder, file: LogFile, traces: Traces) -> bool:
    data = folder.read(file.path, at_most=LOG_FILE_BYTES)
    actions = _of_checkpoint if file.path.endswith(".parquet") else _of_commit
    try:
        return any(map(traces.in_action, actions(data)))
    except (*UNREADABLE, AttributeError, RecursionError) as error:
        if file.version < 0:  # a temporary file that was cut short: removed with the others
            return True
        where = public(folder.uri_of(file.path))
        raise StoreError(f"{where} is not a file of a Delta log: {str(error)[:200]}") from None


def _of_commit(data: bytes) -> Iterator[Mapping[str, Any]]:
    for line in data.splitlines():
        action = json.loads(line)
        # Remove actions have no bounds, at least ours.
        if add := action.get("add"):
            yield add
        if remove := action.get("remove"):
            yield {"stats": remove.get("stats")}


def _of_checkpoint(data: bytes) -> Iterator[Mapping[str, Any]]:
    opened = open_checkpoint(data)
    for batch in opened.iter_batches(_ACTIONS, columns=["add"]):
        yield from (add for add in batch.column(0).to_pylist() if add)


def _name_bounds(action: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(column, bound). Delta's `stats` are JSON; some checkpoints have them as columns too."""
    given = json.loads(action.get("stats") or "{}"), action.get("stats_parsed") or {}
    for stats in given:
        for side in ("minValues", "maxValues"):
            for column in ("uri", "member"):
                bound = (stats.get(side) or {}).get(column)
                if isinstance(bound, str):
                    yield column, bound

"""Builds the ledger: in this process if it is small, else in tasks.

Tasks read groups of files and split the entries by ranges of the object id. One task per range
sorts the pieces. The shards stay in the object store: the driver holds references.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.sources import Source
from pipeline.storage import Folder
from pipeline.store.delta.actions import LiveFile
from pipeline.store.ledger import COLUMNS, Ledger, Mask
from pipeline.store.parts import Logged, read_part
from pipeline.store.runs import RunSummary

if TYPE_CHECKING:
    from ray import ObjectRef

#: 48 MB of ledger; above it, tasks are used.
LOCAL_ROWS: Final = 2_000_000
SHARD_ROWS: Final = 4_000_000
#: Above sixteen billion rows shards become larger, not more: a log with false counts must not
#: cause any number of shards.
MOST_SHARDS: Final = 4096
_READERS: Final = 4


@dataclass(frozen=True, slots=True)
class FileReader:
    """Reads the entries of one live file. `runs` are the ids of the runs with this run's scope.

    With `allow_private` it also finds rows that were denied only because that option was off; see
    states.PRIVATE. Files are checked against the log, unless the caller reports on both (`verify`).
    """

    folder: Folder
    source: Source
    runs: frozenset[str]
    allow_private: bool = False
    held_to_log: bool = True

    @classmethod
    def for_scope(
        cls, folder: Folder, source: Source, runs: Iterable[RunSummary], **how: bool
    ) -> Self:
        """For a run over `source`; `runs` are the store's runs, of this scope and of others."""
        ours = frozenset(run.run_id for run in runs if run.scope == source.scope)
        return cls(folder, source, ours, **how)

    def read(self, file: Logged | str, columns: Sequence[str]) -> pa.Table:
        if not self.held_to_log and not isinstance(file, str):
            file = file.path
        return read_part(self.folder, file, columns)

    def entries(self, ordinal: int, file: Logged | str) -> Ledger:
        messages = ["error_message"] if self.allow_private else []
        rows = self.read(file, [*COLUMNS, *messages, "run_id"])
        return Ledger.of_file(rows, ordinal, self.in_scope_of(file, rows["run_id"]))

    def in_scope(self, file: Logged | str) -> Mask:
        """A flag for each row of a file: is its object in the scope of this run?"""
        return self.in_scope_of(file, self.read(file, ["run_id"])["run_id"])

    def in_scope_of(self, file: Logged | str, run_ids: pa.ChunkedArray) -> Mask:
        """The same, if the file's column `run_id` is loaded already."""
        ours = pc.is_in(run_ids, value_set=pa.array(sorted(self.runs), pa.string()))
        in_scope: Mask = np.array(ours.to_numpy(), dtype=bool)
        if not in_scope.all():
            self._ask_source(file, in_scope)
        return in_scope

    def _ask_source(self, file: Logged | str, in_scope: Mask) -> None:
        # Rows of other runs: the same archive may have been listed under another scope.
        rows = self.read(file, ["uri", "member"])
        uris, members = rows["uri"], rows["member"]
        for row in map(int, np.flatnonzero(~in_scope)):
            in_scope[row] = bool(self.source.contains(uris[row].as_py(), members[row].as_py()))


def rows_of(files: Sequence[LiveFile]) -> int:
    return sum(file.num_rows for file in files)


def local_ledger(reader: FileReader, files: Sequence[LiveFile]) -> Ledger:
    """The ledger of `files`, built in this process; a file's position is its ordinal."""
    with ThreadPoolExecutor(_READERS) as pool:
        pieces = pool.map(reader.entries, range(len(files)), files)
        return Ledger.merged(pieces)


def ledger_shards(
    reader: FileReader, files: Sequence[LiveFile], options: Mapping[str, Any] | None = None
) -> "list[ObjectRef]":
    """The same, built in tasks: references to shards by ranges of the object id.

    `options` are Ray's, and say where to run.
    """
    import ray

    shards = min(max(1, -(-rows_of(files) // SHARD_ROWS)), MOST_SHARDS)
    where = options or {}
    read = ray.remote(num_cpus=1, num_returns=shards, **where)(_read_group)
    merge = ray.remote(num_cpus=1, **where)(_merge_pieces)
    pieces = [read.remote(reader, group, shards) for group in _groups(files)]
    rows = [[piece] if shards == 1 else piece for piece in pieces]
    return [merge.remote(*column) for column in zip(*rows, strict=True)]


def _read_group(reader: FileReader, group: Sequence[tuple[int, LiveFile]], shards: int) -> Any:
    found = Ledger.joined(reader.entries(ordinal, file) for ordinal, file in group)
    return found if shards == 1 else tuple(found.split(shards))


def _merge_pieces(*pieces: Ledger) -> Ledger:
    return Ledger.merged(pieces)


def _groups(files: Sequence[LiveFile]) -> list[list[tuple[int, LiveFile]]]:
    groups: list[list[tuple[int, LiveFile]]] = []
    rows = SHARD_ROWS
    for ordinal, file in enumerate(files):
        if rows + file.num_rows > SHARD_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append((ordinal, file))
        rows += file.num_rows
    return groups

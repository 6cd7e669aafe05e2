"""Committer: cuts the stream of labelled blocks into parts, by time, and commits each part.

The driver holds references only. For each cut it starts one task, which writes the part and
rewrites the files whose rows the part replaces. The driver then publishes all of it in one
commit. While one cut is being written, blocks for the next are buffered.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipeline.engine.placement import IO_SHARE
from pipeline.engine.session import fetch
from pipeline.graph.batches import unpack
from pipeline.graph.commit_buffer import CommitBuffer
from pipeline.graph.metrics import Meters, Watch
from pipeline.storage import Folder
from pipeline.store.delta.actions import LiveFile
from pipeline.store.delta.table import Table
from pipeline.store.parts import Logged, Part, rewrite_without, write_part
from pipeline.store.upkeep import part_path

if TYPE_CHECKING:
    from ray import ObjectRef

CUT_BYTES: Final = 128 * 2**20
#: The first cuts come sooner, so that a short run or an early crash has rows to show.
FIRST_CUTS: Final = (0.0, 5.0, 10.0, 20.0)
#: Rewriting replaced files may take at most this share of the run's time.
REWRITE_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Written:
    """What one cut wrote. `rewritten` maps a file's ordinal to its new file, None if it became
    empty."""

    part: Part
    rewritten: dict[int, Part | None]
    errors: dict[str, int]


def _nobody(_: Written) -> None:
    pass


@dataclass(slots=True)
class Committer:
    """Buffers blocks, cuts parts and commits them. `files` maps the ledger's ordinals to files.

    `on_commit` is called for each committed cut; `options` are Ray's, and say where to write.
    `store_rows` is how many rows of this recipe the store has.
    """

    table: Table
    folder: Folder
    run_id: str
    recipe: str
    files: Sequence[LiveFile]
    seconds: float
    on_commit: Callable[[Written], None] = _nobody
    options: Mapping[str, Any] = field(default_factory=dict)
    labelled: int = 0
    store_rows: int = field(init=False)
    errors: Counter[str] = field(default_factory=Counter)

    _held: CommitBuffer = field(default_factory=CommitBuffer)
    _pending: "ObjectRef | None" = None
    _moved: dict[int, Part | None] = field(default_factory=dict)
    _cuts: int = 0
    _last_cut: float = field(default_factory=time.monotonic)
    _rewrite_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.store_rows = sum(file.num_rows for file in self.files)

    @property
    def waiting(self) -> float:
        """Seconds since the last cut while rows wait to be committed; 0 if none wait."""
        idle = self._pending is None and not self._held
        return 0.0 if idle else time.monotonic() - self._last_cut

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    @property
    def rows(self) -> int:
        """Number of committed rows."""
        return self.labelled + self.failed

    def present_files(self) -> list[LiveFile | Part | None]:
        """The current file of each ordinal; None for a file that became empty."""
        return [self._moved.get(n, file) for n, file in enumerate(self.files)]

    def hold(self, block: "ObjectRef", size_bytes: int) -> None:
        """Buffer a block of batches (see batches.py) of rows in flight."""
        self._held.add(block, size_bytes)

    def step(self) -> bool:
        """Do what is due now, without waiting; True if a commit was made."""
        committed = self._commit_if_written(timeout=0)
        if self._pending is None and self._held and self._due():
            self._cut()
        return committed

    def flush(self, seconds: float = math.inf) -> None:
        """Commit all that is buffered; returns when that is done, or at the time limit."""
        until = time.monotonic() + seconds
        while (self._pending is not None or self._held) and time.monotonic() < until:
            if self._pending is None:
                self._cut()
            left = until - time.monotonic()
            self._commit_if_written(timeout=None if math.isinf(left) else max(0.0, left))

    def _due(self) -> bool:
        waited = time.monotonic() - self._last_cut
        return waited >= self._interval() or self._held.size_bytes >= CUT_BYTES

    def _interval(self) -> float:
        slow = self._rewrite_seconds / REWRITE_SHARE
        if self._cuts < len(FIRST_CUTS):
            return max(slow, min(self.seconds, FIRST_CUTS[self._cuts]))
        return max(slow, self.seconds)

    def _cut(self) -> None:
        writer = CutWriter(self.folder, self.run_id, self.recipe, self._cuts)
        files = {
            n: LiveFile(file.path, file.recipe, file.num_rows, file.size_bytes)
            for n, file in enumerate(self.present_files())
            if file is not None
        }
        write = ray.remote(num_cpus=IO_SHARE, **self.options)(_write)
        self._pending = write.remote(writer, files, *self._held.take())
        self._cuts += 1
        self._last_cut = time.monotonic()

    def _commit_if_written(self, timeout: float | None) -> bool:
        if self._pending is None or not ray.wait([self._pending], timeout=timeout)[0]:
            return False
        written: Written = fetch(self._pending)
        self._pending = None
        self._commit(written)
        took = time.monotonic() - self._last_cut
        self._rewrite_seconds = took if written.rewritten else 0.0
        return True

    def _commit(self, written: Written) -> None:
        present = self.present_files()
        removed = [file for n in written.rewritten if (file := present[n]) is not None]
        rewritten = [part for part in written.rewritten.values() if part is not None]
        added = [written.part, *rewritten]
        self.table.commit(added=added, removed=removed)
        self._moved |= written.rewritten
        self.errors.update(written.errors)
        self.labelled += written.part.num_rows - written.part.num_errors
        self.store_rows += sum(part.num_rows for part in added) - sum(f.num_rows for f in removed)
        self.on_commit(written)


@dataclass(frozen=True, slots=True)
class CutWriter:
    """The task that writes one cut.

    Each attempt uses file names of its own: an attempt that Ray has given up may still be writing
    when another has replaced it and been committed.
    """

    folder: Folder
    run_id: str
    recipe: str
    number: int

    def write(self, rows: pa.Table, files: Mapping[int, Logged | str]) -> Written:
        """Write `rows` in flight, and rewrite `files` without the rows that these replace."""
        attempt = uuid4().hex[:8]

        def new_path(name: str) -> str:
            return part_path(self.run_id, self.recipe, f"{self.number:06}-{attempt}-{name}")

        part = write_part(self.folder, new_path("part"), self.recipe, _at_rest(rows))
        rewritten = {
            ordinal: rewrite_without(
                self.folder, files[ordinal], new_path(f"file-{ordinal}"), self.recipe, ids
            )
            for ordinal, ids in _replaced(rows).items()
        }
        return Written(part, rewritten, _errors(rows))


def _write(writer: CutWriter, files: Mapping[int, LiveFile], *blocks: pa.Table) -> Written:
    watch = Watch()
    written = writer.write(unpack(pa.concat_tables(blocks)), files)
    watch.lap("write")
    Meters.of(writer.folder.uri).took(watch)
    return written


def _at_rest(rows: pa.Table) -> pa.Table:
    return rows.drop_columns(["replaces"])


def _replaced(rows: pa.Table) -> dict[int, list[bytes]]:
    """Object ids of rows that replace an older row, by the ordinal of the older row's file."""
    replacing = rows.filter(pc.is_valid(rows["replaces"])).select(["replaces", "object_id"])
    groups = replacing.group_by("replaces").aggregate([("object_id", "list")])
    files, ids = groups["replaces"].to_pylist(), groups["object_id_list"].to_pylist()
    return dict(zip(files, ids, strict=True))


def _errors(rows: pa.Table) -> dict[str, int]:
    counted = pc.value_counts(rows["error_code"].drop_null()).to_pylist()
    return {pair["values"]: pair["counts"] for pair in counted}

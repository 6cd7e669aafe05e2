"""The Delta table of a label store: which files are live, and the one way to change that.

The order of a commit, and why it is safe:

1. Files are written first, under new names. Until step 3 no reader sees them.
2. The table is reloaded. If its version is not the one this writer saw last, another run
   has written here: this one is fenced and stops.
3. One Delta commit names the files added and the files removed, together with a Delta
   application transaction (the writer's number + 1). Delta refuses it if any other commit
   took the version in between, which closes the race between 2 and 3.
4. If the answer to 3 is lost, the table is read again to find the commit's own mark: the
   writer never guesses whether a commit succeeded, and never repeats it blindly.
5. The table is reloaded. If our commit is no longer the last, this writer was suspended while
another one continued, and it stops: files that it considers live may be gone.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Self
from uuid import uuid4

import pyarrow as pa

from pipeline import schema
from pipeline.errors import ConflictError, MissingError, NightlabelError, StoreError
from pipeline.storage import DeltaRoot, Folder, Unsupported, delta_error, no_panic, public
from pipeline.store.delta.actions import LiveFile, add, remove
from pipeline.store.delta.guard import blame, check_log
from pipeline.store.delta.log import oldest_version, remove_expired
from pipeline.store.fields import KIND, LABELS, fields_for, is_store, lacking
from pipeline.store.names import may_hold
from pipeline.store.parts import Part
from pipeline.store.recipes import is_recipe_id

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties

#: The table's application id in Delta's transaction identifiers.
WRITER = "nightlabel"

CHECKPOINT_INTERVAL: Final = 20

#: A checkpoint every 20 commits and a week of log keep opening fast for a table with a commit every
#: half minute.
CONFIGURATION = {
    "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
    "delta.logRetentionDuration": "interval 7 days",
    "delta.enableExpiredLogCleanup": "true",
}


#: The Delta protocol of `create`: reader, writer. A table that others upgraded could be misread.
PROTOCOL = (1, 2)

#: Object ids have 12 bytes that cannot be compressed, so no file holds more rows than this allows.
ROW_BYTES = 8

#: What deltalake raises for values that it did not expect.
_ODD = (ValueError, LookupError, TypeError, OverflowError, Unsupported)


class Table:
    """A label store's table as one writer sees it. Not thread-safe."""

    def __init__(self, folder: Folder, root: DeltaRoot, delta: "DeltaTable") -> None:
        self._folder, self._root, self._delta = folder, root, delta
        self._fenced: ConflictError | None = None
        self.commits = 0

    @classmethod
    def open(cls, folder: Folder) -> Self | None:
        """The table of a store, or None if there is none yet.

        Raises StoreError for a Delta table that is not a label store of this version.
        """
        try:
            root = DeltaRoot(folder)
        except MissingError:
            return None
        delta = _load(folder, root)
        if delta is None:
            return None
        table = cls(folder, root, delta)
        with _translated(folder.uri):
            table._refuse_foreign()
        return table

    @classmethod
    def create(cls, folder: Folder, columns: Iterable[pa.Field], kind: str) -> Self:
        """Make an empty table for a task's `columns`, results of this kind.

        Raises ConflictError if another run made one in the meantime.
        """
        from deltalake import DeltaTable

        root = DeltaRoot(folder, make=True)
        with _translated(folder.uri):
            delta = DeltaTable.create(
                root.url,
                schema=fields_for(columns),
                partition_by=[schema.PARTITION],
                mode="error",
                configuration=CONFIGURATION | {KIND: kind},
                raise_if_key_not_exists=False,  # KIND is a name of ours
                storage_options=folder.delta_options,
            )
        return cls(folder, root, delta)

    @property
    def version(self) -> int:
        return int(self._delta.version())

    @property
    def kind(self) -> str:
        """The kind of result that the rows hold."""
        return str(self._delta.metadata().configuration.get(KIND, LABELS))

    @property
    def schema(self) -> pa.Schema:
        """The columns of a row, without the partition."""
        fields = pa.schema(self._delta.schema().to_arrow())
        return fields.remove(fields.get_field_index(schema.PARTITION))

    def add_columns(self, columns: Sequence[pa.Field]) -> None:
        """Add the columns that the table lacks, in one commit of metadata; old files stay as they
        are.

        Raises StoreError for a column that exists with another type, ConflictError as `commit`
        does.
        """
        missing = lacking(self.schema, columns, public(self._folder.uri))
        if missing:
            self._commit_fenced(lambda properties: self._add_columns(missing, properties))

    def live(self) -> list[LiveFile]:
        """The live files of this snapshot, ordered by path: a file's place is its ordinal.

        They are read, rewritten and deleted by these paths, so every path is checked.
        Raises StoreError for a log that names a file that no run of ours wrote.
        """
        with _translated(self._folder.uri):
            actions = pa.table(self._delta.get_add_actions(flatten=True))
        columns = ["path", f"partition.{schema.PARTITION}", "num_records", "size_bytes"]
        rows = zip(*(actions[name].to_pylist() for name in columns), strict=True)
        files = sorted((self._ours(*row) for row in rows), key=lambda file: file.path)
        for one, other in pairwise(files):
            if one.path == other.path:
                raise self._foreign(f"names {one.path!r} twice")
        return files

    def _ours(self, path: str, recipe: str | None, rows: int | None, size: int) -> LiveFile:
        self._folder.refuse_outside(path)
        if recipe is None or not is_recipe_id(recipe) or rows is None or not may_hold(path, recipe):
            raise self._foreign(f"names {path!r}, which is not a file of a label store")
        if not 0 <= rows * ROW_BYTES <= size:
            raise self._foreign(f"names {path!r}, of {rows:,} rows in {size:,} bytes")
        return LiveFile(path, recipe, rows, size)

    def _refuse_foreign(self) -> None:
        """Refuse a table that others have changed: no run of ours reads such files correctly."""
        found = pa.schema(self._delta.schema().to_arrow())
        if not is_store(found):
            raise StoreError(
                f"{self._folder.uri} holds a Delta table that is not a label store of schema "
                f"version {schema.VERSION}: give another folder"
            )
        protocol, columns = self._delta.protocol(), self._delta.metadata().partition_columns
        needed = sorted({*(protocol.reader_features or ()), *(protocol.writer_features or ())})
        versions = protocol.min_reader_version, protocol.min_writer_version
        if needed or versions[0] > PROTOCOL[0] or versions[1] > PROTOCOL[1]:
            features = f" and {', '.join(needed)}" if needed else ""
            raise self._foreign(f"asks for reader {versions[0]}, writer {versions[1]}{features}")
        if columns != [schema.PARTITION]:
            raise self._foreign(f"divides the table by {', '.join(columns) or 'nothing'}")

    def _foreign(self, problem: str) -> StoreError:
        where = public(self._folder.uri)
        return StoreError(f"{where}: the log {problem}: another program has written here")

    def paths_at(self, folder: Folder, moment: datetime) -> set[str]:
        """The paths of the version at that time; empty if the table or its log is younger."""
        from deltalake import DeltaTable

        readable = oldest_version(folder)
        with _translated(folder.uri):
            history = [one for one in self._delta.history() if one.get("version", -1) >= readable]
            oldest = history[-1].get("timestamp") if history else None
            if not isinstance(oldest, int) or moment.timestamp() * 1000 < oldest:
                return set()
            then = DeltaTable(self._root.url, storage_options=folder.delta_options)
            then.load_as_version(moment)
            return set(pa.table(then.get_add_actions(flatten=True))["path"].to_pylist())

    def checkpoint(self) -> None:
        """Write the whole current version, so that it can be read without the commits before it."""
        self._root.check(self.version)
        with _translated(self._folder.uri):
            self._delta.create_checkpoint()

    def commit(self, added: Sequence[Part] = (), removed: Sequence[LiveFile | Part] = ()) -> None:
        """Add `added` and remove `removed` in one step (with neither: a fence).

        Raises ConflictError if another writer committed since we last read the table, and from then
        on.
        """
        self._commit_fenced(lambda properties: self._write(added, removed, properties))

    def _commit_fenced(self, write: "Callable[[CommitProperties], None]") -> None:
        if self._fenced is not None:
            raise self._fenced
        try:
            self._commit(write)
        except ConflictError as error:
            self._fenced = error
            raise

    def _commit(self, write: "Callable[[CommitProperties], None]") -> None:
        self._refuse_unless(self.version)
        ours, mark = self.version + 1, uuid4().hex
        try:
            with _translated(self._folder.uri):
                write(self._properties(mark))
        except StoreError:
            if not self._landed(mark):
                raise
        self.commits += 1
        self._refuse_unless(ours)
        if self._folder.local is not None and ours % CHECKPOINT_INTERVAL == 0:
            remove_expired(self._folder, self._delta.metadata().configuration)

    def refresh(self) -> None:
        """Read what others committed."""
        check_log(self._folder, after=self.version)
        self._root.check(self.version + 1)
        with _translated(self._folder.uri):
            self._delta.update_incremental()

    def _refuse_unless(self, last: int) -> None:
        self.refresh()
        if self.version != last:
            raise ConflictError(
                f"another run has written to {public(self._folder.uri)} (version {self.version}, "
                f"ours was {last}); this run stops; what it committed stays"
            )

    def _properties(self, mark: str) -> "CommitProperties":
        from deltalake import CommitProperties, Transaction

        number = (self._delta.transaction_version(WRITER) or 0) + 1
        return CommitProperties(
            app_transactions=[Transaction(WRITER, number)],
            max_commit_retries=0,
            custom_metadata={"mark": mark},
        )

    def _after_a_commit(self) -> "PostCommitHookProperties":
        from deltalake import PostCommitHookProperties

        # delta-rs cleans up by path and follows links; on local disk we do that ourselves.
        clean_up = False if self._folder.local is not None else None
        return PostCommitHookProperties(cleanup_expired_logs=clean_up)

    def _add_columns(self, columns: Sequence[pa.Field], properties: "CommitProperties") -> None:
        from deltalake import Schema

        fields = Schema.from_arrow(pa.schema(columns)).fields
        self._delta.alter.add_columns(
            fields,
            commit_properties=properties,
            post_commithook_properties=self._after_a_commit(),
        )

    def _write(
        self,
        added: Sequence[Part],
        removed: Sequence[LiveFile | Part],
        properties: "CommitProperties",
    ) -> None:
        now = int(time.time() * 1000)
        self._delta.create_write_transaction(
            [*(add(part, now) for part in added), *(remove(file, now) for file in removed)],
            mode="append",
            schema=self._delta.schema(),
            partition_by=[schema.PARTITION],
            commit_properties=properties,
            post_commithook_properties=self._after_a_commit(),
        )

    def _landed(self, mark: str) -> bool:
        self.refresh()
        return any(entry.get("mark") == mark for entry in self._delta.history(limit=5))


def _load(folder: Folder, root: DeltaRoot) -> "DeltaTable | None":
    """The table in a folder, after its log was checked; None if there is none."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    check_log(folder)
    try:
        with _translated(folder.uri), suppress(TableNotFoundError):
            return DeltaTable(root.url, storage_options=folder.delta_options)
    except StoreError as error:
        if type(error) is not StoreError:
            raise
        raise StoreError(f"{error}{blame(folder)}") from None
    return None


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

    try:
        with no_panic():
            yield
    except CommitFailedError:
        raise ConflictError(
            f"{uri}: another run committed first; this one stops; what it committed stays"
        ) from None
    except TableNotFoundError:
        raise MissingError(f"{uri}: no label store here") from None
    except NightlabelError:
        raise
    except (DeltaError, pa.ArrowException, OSError, *_ODD) as error:
        raise delta_error(error, uri) from None

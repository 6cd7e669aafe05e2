"""Run summaries of a store: small documents that others may have written too."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, TypeVar
from uuid import uuid4

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    field_validator,
)

from pipeline import schema
from pipeline.errors import DeniedError, MissingError, StoreError
from pipeline.storage import Entry, Folder, public, recorded
from pipeline.storage.folder import DOCUMENT_BYTES
from pipeline.store.run_index import RunIndex
from pipeline.store.skipped import warn_of_skipped
from pipeline.store.states import FAILED_BEFORE

RUNS: Final = "_nightlabel/runs/"

#: Prefix of a default exclude's name in counts by name.
LEFT_OUT: Final = "left_out:"
#: A summary names this many of the files that could not be read.
NAMED_UNREADABLE: Final = 100

#: A summary has some 3 KB, more with a hundred long names that could not be read.
RUN_BYTES: Final = 4 * 2**20
#: The newest runs, and their limit in total: a run each night for thirteen years.
RUNS_READ: Final = 5000
RUNS_BYTES: Final = 256 * 2**20
#: No more names are listed; a store lists some ten thousand a second at least.
LISTED: Final = 250_000
_READERS: Final = 8
_SHOWN: Final = 200

Status = Literal["running", "complete", "incomplete", "interrupted", "gate", "failed"]


Document = TypeVar("Document", bound=BaseModel)


def _in_calendar(moment: datetime) -> datetime:
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise ValueError("not a time of a run")
    return moment


def _comparable(scope: dict[str, Any]) -> dict[str, Any]:
    """Fields of a scope that are compared and printed are texts; filters of newer versions may be
    anything."""
    for name in ("kind", "src"):
        if not isinstance(scope.get(name, ""), str):
            raise ValueError(f"{name} is not text")
    for name in ("include", "exclude"):
        globs = scope.get(name) or ()
        if not isinstance(globs, list | tuple) or not all(isinstance(one, str) for one in globs):
            raise ValueError(f"{name} is not a list of texts")
    return scope


#: Every time zone can show these.
_FIRST_YEAR, _LAST_YEAR = 1970, 9990
#: Whatever arithmetic is done with it, Python can print the result.
Count = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Moment = Annotated[AwareDatetime, AfterValidator(_in_calendar)]
Scope = Annotated[dict[str, Any], AfterValidator(_comparable)]


class Counts(BaseModel):
    """How many objects had each result in one run.

    listed = done + failed_before + labelled + failed + remaining, once a run is over. `derived`
    rows were made from a recipe with a larger top_k before the listing, and are counted there
    again.
    """

    model_config = ConfigDict(extra="forbid")

    listed: Count = Field(
        default=0, title="listed", description="images at SRC, without those left out"
    )
    excluded: Count = Field(
        default=0, title="excluded", description="files left out: by their names, or by `--exclude`"
    )
    left_out: dict[str, Count] = Field(
        default_factory=dict,
        title="left out by default",
        description="by pattern; a folder that was not opened counts as one",
    )
    unreadable: Count = Field(
        default=0, title="cannot be read", description="folders that could not be listed"
    )
    done: Count = Field(default=0, title="done", description="have a label of an earlier run")
    failed_before: Count = Field(
        default=0, title="failed before", description="have an error of an earlier run that stays"
    )
    new: Count = Field(default=0, title="new", description="had no row")
    changed: Count = Field(
        default=0, title="changed", description="have a row of an older version of the file"
    )
    retried: Count = Field(
        default=0, title="retried", description="have an error that is tried again"
    )
    labelled: Count = Field(default=0, title="labelled", description="got a label in this run")
    failed: Count = Field(default=0, title="failed", description="got an error in this run")
    gone: Count = Field(default=0, title="gone", description="have a row, but are no longer listed")
    deleted: Count = Field(
        default=0, title="deleted", description="of those, rows that `--delete` removed"
    )
    derived: Count = Field(
        default=0,
        title="derived",
        description="got a row derived from another recipe's, without reading the image",
    )
    bytes: Count = Field(
        default=0, title="to read", description="size of what was to label, where known"
    )
    errors: dict[str, Count] = Field(
        default_factory=dict, title="failed", description="the same by error code"
    )
    failed_before_by_code: dict[str, Count] = Field(
        default_factory=dict, title="failed before", description="the same by error code"
    )

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> Self:
        """From counts by name; names that are no field are left out."""
        known: dict[str, Any] = {n: count for n, count in counts.items() if n in cls.model_fields}
        by_code = _below(counts, FAILED_BEFORE)
        left_out = _below(counts, LEFT_OUT)
        return cls.model_validate(known | {"failed_before_by_code": by_code, "left_out": left_out})

    @property
    def todo(self) -> int:
        return self.new + self.changed + self.retried

    @property
    def remaining(self) -> int:
        return self.todo - self.labelled - self.failed

    @property
    def processed(self) -> int:
        return self.labelled + self.failed


#: Derived numbers, for people and programs.
DERIVED: Final = {
    "to label": "new + changed + retried",
    "processed": "labelled + failed",
    "remaining": "to label - processed",
}


def word(name: str) -> str:
    """The word that people read for a count: one word, or two, the same everywhere."""
    return Counts.model_fields[name].title or name


def _below(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    """The counts whose names begin with `prefix`, without the prefix."""
    return {
        name.removeprefix(prefix): number
        for name, number in sorted(counts.items())
        if name.startswith(prefix)
    }


class Clipping(BaseModel):
    """Images of one mode with more than 8 bits: how many turn white or black in 8 bits."""

    model_config = ConfigDict(extra="forbid")

    images: Count
    white: Count
    black: Count


class RunSummary(BaseModel):
    """One run, written when it starts and again when it ends."""

    model_config = ConfigDict(extra="forbid")

    run_id: str
    schema_version: Count = schema.VERSION
    status: Status = "running"
    reason: str | None = None
    exit_code: Count = 0
    started: Moment
    finished: Moment | None = None
    recipe: str
    scope: Scope
    spec: dict[str, Any]
    listing_complete: bool = False
    #: the first of what could not be listed: uri → why
    unreadable: dict[str, str] = Field(default_factory=dict)
    counts: Counts = Field(default_factory=Counts)
    clipping: dict[str, Clipping] = Field(default_factory=dict)
    hardware: dict[str, Any] = Field(default_factory=dict)
    seconds: dict[str, FiniteFloat] = Field(default_factory=dict)
    #: What GPUs did, in seconds of all of them: works, waits, copies, rows.
    device_seconds: dict[str, FiniteFloat] = Field(default_factory=dict)
    images_per_second: FiniteFloat | None = None

    @field_validator("scope")
    @classmethod
    def _scope_as_it_is_recorded_now(cls, scope: dict[str, Any]) -> dict[str, Any]:
        """Scopes are compared, and version 0.2 wrote addresses with more of their parameters."""
        src = scope.get("src")
        return scope | {"src": recorded(src, again=True)} if isinstance(src, str) else scope

    def rate(self) -> float | None:
        """Images a second since the first model was ready; None if that is under a second."""
        began = self.seconds.get("load", self.seconds.get("start"))
        took = self.seconds.get("label", 0.0) - began if began is not None else 0.0
        return round(self.counts.processed / took, 1) if took >= 1 else None

    #: The recipe that readers saw when this was written.
    current: str | None = None
    #: Whether --promote changed it to this one, and if not, why; null if not asked for.
    promoted: bool | None = None
    not_promoted: str | None = None
    #: The rows of this run's recipe were removed later: the run no longer counts as whole.
    dropped: bool | None = None
    #: The old place of this run's rows: `move-src` wrote it, and labelled nothing.
    moved_from: str | None = None

    @property
    def whole(self) -> bool:
        """At its end, every object of its scope had a row of its recipe, and none was removed
        since."""
        return self.status == "complete" and self.listing_complete and not self.dropped


def named_unreadable(unreadable: Mapping[str, str]) -> dict[str, str]:
    """The part of `unreadable` that a summary names."""
    return dict(sorted(unreadable.items())[:NAMED_UNREADABLE])


def new_run_id(now: datetime) -> str:
    """An id that sorts by time: 20260131T020000Z-3f9c2a71."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{uuid4().hex[:8]}"


def save_run(folder: Folder, run: RunSummary) -> None:
    folder.put(f"{RUNS}{run.run_id}.json", run.model_dump_json(indent=1).encode())


class Runs(NamedTuple):
    """The newest runs of a store, the oldest of them first; `unread` says what was skipped."""

    found: list[RunSummary]
    unread: list[str]


def read_runs(folder: Folder, index: RunIndex | None = None) -> Runs:
    """Anyone may have written there, so no file ends a run, and only this many are listed and read.

    A run whose summary is skipped counts as one of another scope, to be safe. With an
    `index`, documents that it holds in their listed state are not read again.
    """
    entries = list(islice(folder.list(RUNS), LISTED))
    unread = [f"{public(folder.uri_of(RUNS))} holds over {LISTED:,} files"][len(entries) < LISTED :]
    left, newest = RUNS_BYTES, list[Entry]()
    for entry in sorted(entries, key=lambda entry: entry.uri, reverse=True):
        left -= min(entry.size, RUN_BYTES)
        if left < 0 or len(newest) == RUNS_READ:
            unread.append(
                f"{public(folder.uri_of(RUNS))}: {len(entries):,} runs, of which the "
                f"newest {len(newest):,} are read"
            )
            break
        newest.append(entry)
    with ThreadPoolExecutor(_READERS) as pool:
        results = list(pool.map(partial(_read_run, folder, index), reversed(newest)))
    unread += [one for one in results if isinstance(one, str)]
    return Runs([one for one in results if isinstance(one, RunSummary)], unread)


def _read_run(folder: Folder, index: RunIndex | None, entry: Entry) -> RunSummary | str | None:
    path = folder.relative(entry.uri)
    try:
        data = index.document(entry, RUN_BYTES) if index else folder.read(path, at_most=RUN_BYTES)
        run = _parsed(folder, path, RunSummary, data)
    except MissingError:
        return None
    except DeniedError:
        raise
    except StoreError as error:
        return str(error)
    if path != f"{RUNS}{run.run_id}.json":
        return (
            f"{public(folder.uri_of(path))} is not a RunSummary of ours: run_id: names another run"
        )
    return run


def load_runs(folder: Folder, index: RunIndex | None = None) -> list[RunSummary]:
    """The newest runs, the oldest of them first. Files that are no summary are reported and
    skipped."""
    runs = read_runs(folder, index)
    warn_of_skipped(runs.unread)
    return runs.found


def load_run(folder: Folder, run_id: str) -> RunSummary | None:
    """One run, from its document; None if there is none, or it is another run's."""
    try:
        run = read_document(folder, f"{RUNS}{run_id}.json", RunSummary, RUN_BYTES)
    except DeniedError:
        raise
    except StoreError:
        return None
    return run if run.run_id == run_id else None


def read_document(
    folder: Folder, path: str, kind: type[Document], at_most: int = DOCUMENT_BYTES
) -> Document:
    """A small document of the store. Raises MissingError, and StoreError if it is invalid."""
    return _parsed(folder, path, kind, folder.read(path, at_most=at_most))


def _parsed(folder: Folder, path: str, kind: type[Document], data: bytes) -> Document:
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])[:_SHOWN] or "JSON"
        where = public(folder.uri_of(path))
        raise StoreError(
            f"{where} is not a {kind.__name__} of ours: {field}: {first['msg'][:_SHOWN]}"
        ) from None

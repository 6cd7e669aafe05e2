"""The small documents of a label store: recipes and run summaries."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Literal, Self, TypeVar
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipeline import schema
from pipeline.errors import MissingError, StoreError
from pipeline.storage import Folder, public, recorded
from pipeline.storage.folder import DOCUMENT_BYTES
from pipeline.store.states import FAILED_BEFORE

RUNS: Final = "_nightlabel/runs/"
RECIPES: Final = "_nightlabel/recipes/"

#: Before the name of a default exclude in counts by name.
LEFT_OUT: Final = "left_out:"
#: So many of what could not be read are named in a summary.
NAMED_UNREADABLE: Final = 100

Status = Literal["running", "complete", "incomplete", "interrupted", "gate", "failed"]


Document = TypeVar("Document", bound=BaseModel)


class Counts(BaseModel):
    """How many objects came to what in one run.

    listed = done + failed_before + labelled + failed + remaining, once a run is over. `derived`
    rows were cut from a recipe of larger top_k before the listing, and are counted there again.
    """

    model_config = ConfigDict(extra="forbid")

    listed: int = Field(
        default=0, title="listed", description="images that SRC holds, those left out aside"
    )
    excluded: int = Field(
        default=0, title="excluded", description="files left out: by their names, or by `--exclude`"
    )
    left_out: dict[str, int] = Field(
        default_factory=dict,
        title="left out by default",
        description="by pattern; a folder that was not opened counts as one",
    )
    unreadable: int = Field(
        default=0, title="cannot be read", description="folders that could not be listed"
    )
    done: int = Field(default=0, title="done", description="have a label of an earlier run")
    failed_before: int = Field(
        default=0, title="failed before", description="have an error of an earlier run that stays"
    )
    new: int = Field(default=0, title="new", description="had no row")
    changed: int = Field(
        default=0, title="changed", description="have a row of an older version of the file"
    )
    retried: int = Field(
        default=0, title="retried", description="have an error that is tried again"
    )
    labelled: int = Field(default=0, title="labelled", description="got a label in this run")
    failed: int = Field(default=0, title="failed", description="got an error in this run")
    gone: int = Field(default=0, title="gone", description="have a row and are listed no more")
    deleted: int = Field(
        default=0, title="deleted", description="of those, rows that `--delete` removed"
    )
    derived: int = Field(
        default=0, title="derived", description="got a shorter row from a larger recipe, unread"
    )
    bytes: int = Field(
        default=0, title="to read", description="size of what was to label, where known"
    )
    errors: dict[str, int] = Field(
        default_factory=dict, title="failed", description="the same by error code"
    )
    failed_before_by_code: dict[str, int] = Field(
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


#: What people and programs read of numbers that follow from the counts.
DERIVED: Final = {
    "to label": "new + changed + retried",
    "processed": "labelled + failed",
    "remaining": "to label - processed",
}


def word(name: str) -> str:
    """What people read of a count: one word, or two, everywhere."""
    return Counts.model_fields[name].title or name


def _below(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    """The counts whose names begin with `prefix`, without it."""
    return {
        name.removeprefix(prefix): number
        for name, number in sorted(counts.items())
        if name.startswith(prefix)
    }


class Clipping(BaseModel):
    """Of the images of one mode of more than 8 bits: how many turn white or black in 8 bits."""

    model_config = ConfigDict(extra="forbid")

    images: int
    white: int
    black: int


class RunSummary(BaseModel):
    """One run, written when it starts and again when it ends."""

    model_config = ConfigDict(extra="forbid")

    run_id: str
    schema_version: int = schema.VERSION
    status: Status = "running"
    reason: str | None = None
    exit_code: int = 0
    started: datetime
    finished: datetime | None = None
    recipe: str
    scope: dict[str, Any]
    spec: dict[str, Any]
    listing_complete: bool = False
    #: the first of what could not be listed: uri → why
    unreadable: dict[str, str] = Field(default_factory=dict)
    counts: Counts = Field(default_factory=Counts)
    clipping: dict[str, Clipping] = Field(default_factory=dict)
    hardware: dict[str, Any] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)
    images_per_second: float | None = None

    @field_validator("scope")
    @classmethod
    def _scope_as_it_is_recorded_now(cls, scope: dict[str, Any]) -> dict[str, Any]:
        """Scopes are compared, and version 0.2 wrote addresses with more of their parameters."""
        src = scope.get("src")
        return scope | {"src": recorded(src, again=True)} if isinstance(src, str) else scope

    def rate(self) -> float | None:
        """Images a second, from the first model that was ready on; None under a second of that."""
        began = self.seconds.get("load", self.seconds.get("start"))
        took = self.seconds.get("label", 0.0) - began if began is not None else 0.0
        return round(self.counts.processed / took, 1) if took >= 1 else None

    #: The recipe that readers saw when this was written.
    current: str | None = None
    #: Whether --promote moved it here; null where that was not asked. And why not, in words.
    promoted: bool | None = None
    not_promoted: str | None = None
    #: The rows of this run's recipe were removed later: what was whole then no longer is.
    dropped: bool | None = None
    #: Where the rows of this run's scope lay before: `move-src` wrote it, and labelled nothing.
    moved_from: str | None = None

    @property
    def whole(self) -> bool:
        """Every object of its scope had a row of its recipe at its end, and has not lost it."""
        return self.status == "complete" and self.listing_complete and not self.dropped


def named_unreadable(unreadable: Mapping[str, str]) -> dict[str, str]:
    """What of it a summary names."""
    return dict(sorted(unreadable.items())[:NAMED_UNREADABLE])


def new_run_id(now: datetime) -> str:
    """An id that sorts by time: 20260131T020000Z-3f9c2a71."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{uuid4().hex[:8]}"


def save_run(folder: Folder, run: RunSummary) -> None:
    folder.put(f"{RUNS}{run.run_id}.json", run.model_dump_json(indent=1).encode())


def load_runs(folder: Folder) -> Iterator[RunSummary]:
    """All runs, the oldest first. Raises StoreError for a file that is no run summary."""
    names = sorted(folder.relative(entry.uri) for entry in folder.list(RUNS))
    for name in names:
        yield read_document(folder, name, RunSummary)


def read_document(folder: Folder, path: str, kind: type[Document]) -> Document:
    """A small document of the store. Raises MissingError, and StoreError if it is another."""
    data = folder.read(path, at_most=DOCUMENT_BYTES)
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "JSON"
        where = public(folder.uri_of(path))
        raise StoreError(
            f"{where} is no {kind.__name__} of ours: {field}: {first['msg']}"
        ) from None


def save_recipe(folder: Folder, recipe_id: str, document: str) -> None:
    """Record what made these labels; a recipe never changes, so the first writer wins."""
    folder.create(f"{RECIPES}{recipe_id}.json", document.encode())


def delete_recipe(folder: Folder, recipe_id: str) -> None:
    folder.delete([f"{RECIPES}{recipe_id}.json"])


def load_recipes(folder: Folder) -> dict[str, str]:
    """The recipes' documents by id."""
    found = {}
    for entry in folder.list(RECIPES):
        name = folder.relative(entry.uri)
        with suppress(MissingError):  # dropped since it was listed
            document = folder.read(name, at_most=DOCUMENT_BYTES).decode("utf-8", "replace")
            found[name.removeprefix(RECIPES).removesuffix(".json")] = document
    return found

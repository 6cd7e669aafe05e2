"""The small documents of a label store: recipes and run summaries."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Literal, Self, TypeVar
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline import schema
from pipeline.errors import MissingError, StoreError
from pipeline.storage import Folder, public
from pipeline.storage.folder import DOCUMENT_BYTES

RUNS: Final = "_nightlabel/runs/"
RECIPES: Final = "_nightlabel/recipes/"

Status = Literal["running", "complete", "incomplete", "interrupted", "gate", "failed"]


Document = TypeVar("Document", bound=BaseModel)


class Counts(BaseModel):
    """How many objects came to what in one run.

    listed = done + failed_before + labelled + failed + remaining, once a run is over. `derived`
    rows were cut from a recipe of larger top_k before the listing, and are counted there again.
    """

    model_config = ConfigDict(extra="forbid")

    listed: int = 0
    excluded: int = 0
    done: int = 0
    failed_before: int = 0
    new: int = 0
    changed: int = 0
    retried: int = 0
    labelled: int = 0
    failed: int = 0
    gone: int = 0
    deleted: int = 0
    derived: int = 0
    bytes: int = 0
    errors: dict[str, int] = Field(default_factory=dict)

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> Self:
        """From counts by name; names that are no field are left out."""
        known = {name: number for name, number in counts.items() if name in cls.model_fields}
        return cls.model_validate(known)

    @property
    def todo(self) -> int:
        return self.new + self.changed + self.retried

    @property
    def remaining(self) -> int:
        return self.todo - self.labelled - self.failed


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
    counts: Counts = Field(default_factory=Counts)
    hardware: dict[str, Any] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)
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

"""Event types, one JSON object each. docs/reference.md is generated from these classes."""

from datetime import UTC, datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

VERSION: Final = 1


class Event(BaseModel):
    """The fields of every event."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: str = Field(description="which kind of event this is")
    schema_version: int = Field(default=VERSION, description="of these fields")
    at: datetime = Field(default_factory=lambda: datetime.now(UTC), description="when, in UTC")
    run_id: str = Field(description="the run, as in `nightlabel runs`")
    dst: str = Field(description="the label store, without credentials")

    @field_validator("*", mode="before")
    @classmethod
    def _encodable(cls, value: object) -> object:
        """A file name may be invalid UTF-8, and JSON must be valid; such an event is still sent."""
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value

    def line(self) -> bytes:
        return self.model_dump_json().encode() + b"\n"


class Started(Event):
    """Source, store and model were checked, and the run holds the store."""

    event: Literal["started"] = "started"
    src: str = Field(description="the images, without credentials")
    model: str | None = Field(description="id or folder; null for a task without a model")
    revision: str | None = Field(description="the resolved commit of a hub model")
    recipe: str = Field(description="the partition that gets the labels")


class Progressed(Event):
    """Progress of the run, every ten seconds and at the start of each stage."""

    event: Literal["progress"] = "progress"
    stage: str = Field(
        description="`checking`, `model`, `listing`, `starting`, `waiting` (for nodes), `loading` "
        "(the model), `compiling`, `labelling`, `deleting` or `merging`"
    )
    listed: int = Field(description="objects listed so far")
    listing_complete: bool = Field(description="whether the listing is complete")
    done_before: int = Field(description="of these, those that have a row of an earlier run")
    todo: int = Field(description="of these, those that this run has to label")
    labelled: int = Field(description="rows that came out of predictors")
    committed: int = Field(description="committed rows of this run")
    errors: int = Field(description="of those, rows with an error code")


class Committed(Event):
    """Rows were committed."""

    event: Literal["committed"] = "committed"
    version: int = Field(description="of the Delta table")
    rows: int = Field(description="in this commit")
    errors: int = Field(description="of those, rows with an error code")
    total: int = Field(description="committed rows of this run")


class GateBreached(Event):
    """More errors than `--max-errors` allows: the run ends with exit code 3."""

    event: Literal["gate"] = "gate"
    errors: int = Field(description="rows of this run with an error code")
    reason: str = Field(description="in words")


class Finished(Event):
    """The end of the run, in every case; `--notify` sends this event too."""

    event: Literal["finished"] = "finished"
    src: str = Field(description="the images, without credentials")
    status: str = Field(
        description="`complete`, `incomplete`, `interrupted`, `gate`, `failed` or `busy`"
    )
    exit_code: int = Field(description="see above")
    reason: str | None = Field(description="in words, if the run is not complete")
    recipe: str | None = Field(description="null if the run ended before its model was known")
    counts: dict[str, int] = Field(description="as in the run's summary; empty as above")
    errors: dict[str, int] = Field(description="rows of this run by error code")
    failed_before_by_code: dict[str, int] = Field(
        default_factory=dict, description="rows of earlier runs that stay, by error code"
    )
    seconds: float = Field(description="from start to end")
    text: str = Field(description="a one-line summary, which chat services show")


KINDS: Final = (Started, Progressed, Committed, GateBreached, Finished)

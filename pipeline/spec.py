"""The specification of a labelling job: frozen, validated, the same for CLI, Python and Ray.

What a job ships is what a run records: `LabelSpec.model_dump_json()`. Credentials are
never part of it; they come from the environment of each process.
"""

import math
import re
import tomllib
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from pipeline.errors import ErrorCode, SpecError, error_codes

DEFAULT_MODEL = "google/vit-base-patch16-224"

#: What a prefix source takes by default; everything else is left out and counted.
IMAGE_SUFFIXES = (
    ".apng",
    ".avif",
    ".bmp",
    ".dib",
    ".gif",
    ".heic",
    ".heif",
    ".jfif",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".png",
    ".tif",
    ".tiff",
    ".webp",
)

#: Pillow's own limit for a decompression bomb (2 × `PIL.Image.MAX_IMAGE_PIXELS`).
MAX_PIXELS = 178_956_970
MAX_BYTES = 256 * 2**20
#: Most images take milliseconds, the longest strip that is allowed some 10 s.
MAX_SECONDS = 60.0

#: So many errors are allowed by default, if more images than that succeeded.
ERRORS_ALLOWED = 100

#: Fields whose whole value may be a secret: who knows a webhook's address may post to it.
SECRETS = frozenset({"notify"})

Positive = Annotated[int, Field(gt=0)]


class LabelSpec(BaseModel):
    """One labelling job. Field names are the CLI's option names with `_` for `-`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    src: str = Field(min_length=1, description="prefix, glob or manifest of images")
    dst: str = Field(min_length=1, description="folder of the label store")

    include: tuple[str, ...] = Field((), description="globs of names to take")
    exclude: tuple[str, ...] = Field((), description="globs of names to leave out")
    limit: Positive | None = Field(None, description="take only the first N listed objects")
    manifest: bool | None = Field(None, description="read SRC as a manifest (default: by name)")
    check_changes: bool = Field(False, description="ask the store for etags a manifest lacks")
    allow_private: bool = Field(False, description="read web addresses that are not public")

    model: str = Field(DEFAULT_MODEL, min_length=1)
    revision: str | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    top_k: Positive = 5
    exif: bool = True
    decode: Literal["exact", "fast"] = "exact"
    max_pixels: Positive = MAX_PIXELS
    max_bytes: Positive = MAX_BYTES
    max_seconds: Annotated[float, Field(gt=0)] = MAX_SECONDS

    address: str | None = None
    predictors: str | None = Field(None, pattern=r"^\d+(:\d+)?$")
    gpus_per_predictor: Annotated[float, Field(gt=0, le=1)] | None = None
    wait_for_nodes: Annotated[float, Field(ge=0)] = 60.0
    batch_size: Positive | None = None
    compile: bool = Field(False, description="compile the network for its device")
    commit_seconds: Annotated[float, Field(gt=0)] = 30.0

    new_recipe: bool = False
    retry_errors: bool | tuple[ErrorCode, ...] = Field(
        False, description="true: every permanent error; or the codes to try again"
    )
    delete: bool = False
    take_over: bool = False
    partial_ok: bool = False
    max_images: Positive | None = None
    max_errors: str | None = Field(None, pattern=r"^\d+(\.\d+)?%?$")
    deadline: str | None = None

    events: str | None = Field(None, min_length=1, description="file or folder of JSON lines")
    notify: str | None = Field(None, pattern=r"^https?://", description="web address told the end")

    @field_validator("predictors")
    @classmethod
    def _predictors_in_order(cls, text: str | None) -> str | None:
        if text is not None:
            low, _, high = text.partition(":")
            if int(low) < 1 or (high and int(high) < int(low)):
                raise ValueError("give N or MIN:MAX with 1 <= MIN <= MAX")
        return text

    @field_validator("retry_errors", mode="before")
    @classmethod
    def _retry_known_codes(cls, given: object) -> object:
        if isinstance(given, bool) or given in ("all", "true", "false"):
            return given not in (False, "false")
        names = given.split(",") if isinstance(given, str) else given
        if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
            raise ValueError("give true, false, or a list of error codes")
        return error_codes(names)

    @field_validator("deadline")
    @classmethod
    def _deadline_parses(cls, text: str | None) -> str | None:
        if text is not None:
            deadline_at(text, datetime.now().astimezone())
        return text

    @field_validator("delete")
    @classmethod
    def _delete_sees_everything(cls, delete: bool, info: ValidationInfo) -> bool:
        if delete and info.data.get("limit"):
            raise ValueError("needs the whole listing, which --limit cuts")
        return delete

    @property
    def predictor_range(self) -> tuple[int, int] | None:
        """(min, max) predictors as asked for, or None to let placement decide."""
        if self.predictors is None:
            return None
        low, _, high = self.predictors.partition(":")
        return int(low), int(high or low)

    def errors_allowed(self, processed: int | None, failed: int) -> float:
        """How many of `processed` objects, of which `failed` did fail, may do so.

        By default 1% of them; or 100, but never more than succeeded: where more failed than
        succeeded the gate is passed, however few they are. While the listing goes on it is not
        known yet how many there will be (None), and only a plain number is a limit.
        """
        if self.max_errors is not None and not self.max_errors.endswith("%"):
            return int(float(self.max_errors))
        if processed is None:
            return math.inf
        if self.max_errors is None:
            return max(processed // 100, min(ERRORS_ALLOWED, processed - failed))
        return int(processed * float(self.max_errors[:-1]) / 100)


def make_spec(**fields: Any) -> LabelSpec:
    """Build a spec; a bad field raises SpecError, which names it and its value."""
    try:
        return LabelSpec(**fields)
    except ValidationError as error:
        raise _first_problem(error) from None


def parse_spec(document: str) -> LabelSpec:
    """A spec from its own JSON, as a job ships it. Raises SpecError."""
    try:
        return LabelSpec.model_validate_json(document)
    except ValidationError as error:
        raise _first_problem(error) from None


def load_spec(config: Path | None, sets: Mapping[str, str], flags: Mapping[str, Any]) -> LabelSpec:
    """A spec from a TOML file, then `KEY=VALUE` settings, then flags; the later wins.

    Keys may be written with `-` or `_`. Settings are TOML values, or else plain strings.
    Raises SpecError for a file that is missing or no TOML, and for any bad field.
    """
    fields = _read_toml(config) if config else {}
    fields |= {key: _toml_value(value) for key, value in sets.items()}
    fields = {key.replace("-", "_"): value for key, value in fields.items()}
    return make_spec(**fields | {k: v for k, v in flags.items() if v is not None and v != ()})


def deadline_at(text: str, now: datetime) -> datetime:
    """When a deadline falls: `6h`, `90m`, `1h30m`, `45s` from now, or the next `06:30`.

    `now` must be aware; a clock time is in its zone. A moment with its zone, as of
    `datetime.isoformat`, is itself, past or not. Raises ValueError.
    """
    if re.fullmatch(r"\d{4}-\d\d-\d\dT[^ ]+", text):
        return _aware(datetime.fromisoformat(text))
    if clock := re.fullmatch(r"(\d{1,2}):(\d{2})", text):
        at = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return at if at > now else at + timedelta(days=1)
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not text or parts is None:
        raise ValueError("give a duration such as 6h, 1h30m or 45s, or a clock time such as 06:30")
    hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    return now + timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("give its zone too: 2026-01-31T06:30:00+01:00")
    return moment


def _first_problem(error: ValidationError) -> SpecError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "spec"
    # Where nothing was given, pydantic shows all that was: not the value of this field.
    value = None if field == "spec" or first["type"] == "missing" else first["input"]
    if field in SECRETS:
        value = "…"
    if first["type"] == "missing":
        return SpecError(field, None, "is needed; give it as an argument, or in --config")
    return SpecError(field, value, first["msg"].removeprefix("Value error, "))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise SpecError("config", str(path), "no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError("config", str(path), f"not TOML: {error}") from None


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text

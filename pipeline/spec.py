"""Job specification: frozen, validated, the same for CLI, Python and Ray.

The job that is sent is the job that a run records: `LabelSpec.model_dump_json()`. Credentials are
never part of it; they come from the environment of each process.
"""

import math
import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from pipeline.errors import SpecError, error_codes
from pipeline.job_options import DEFAULT_MODEL as DEFAULT_MODEL
from pipeline.job_options import MAX_BYTES as MAX_BYTES
from pipeline.job_options import MAX_PIXELS as MAX_PIXELS
from pipeline.job_options import MAX_SECONDS as MAX_SECONDS
from pipeline.job_options import JobOptions
from pipeline.validation import first_problem
from pipeline.words import DEFAULT_TASK

#: File names that a prefix source reads by default; others are skipped and counted.
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

#: Errors allowed by default, if more images than that succeed.
ERRORS_ALLOWED = 100

#: Omitted from a job where they are not used: the record, the JSON and the hash of a job that only
#: classifies stay as they were before there were other tasks.
_OMITTED: Final = {
    "task": DEFAULT_TASK,
    "pooling": None,
    "vector_dtype": "float16",
    "embed": None,
}

#: Fields whose value may be a secret: everyone who knows a webhook's address can post to it.
SECRETS = frozenset({"notify"})


class LabelSpec(JobOptions, BaseModel):
    """One labelling job. Field names are the CLI's option names with `_` for `-`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("src", "dst", "task", "model", "events")
    @classmethod
    def _names_hold_no_nul(cls, text: str | None) -> str | None:
        if text is not None and "\0" in text:
            raise ValueError("must not contain a NUL character")
        return text

    @field_validator("predictors", "max_errors", mode="before")
    @classmethod
    def _number_as_text(cls, given: Any) -> Any:
        """TOML and `--set` give a single number without quotes."""
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        return str(given) if is_number else given

    @field_validator("predictors")
    @classmethod
    def _predictors_in_order(cls, text: str | None) -> str | None:
        if text is not None:
            found = re.fullmatch(r"([0-9]{1,6})(?::([0-9]{1,6}))?", text)
            if found is None or not 1 <= int(found[1]) <= int(found[2] or found[1]):
                raise ValueError("give a number, such as 2, or a range, such as 1:8")
        return text

    @field_validator("max_errors")
    @classmethod
    def _errors_are_a_number_or_a_share(cls, text: str | None) -> str | None:
        if text is not None and not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?%?", text):
            raise ValueError("give a number, such as 100, or a percentage, such as 0.5%")
        return text

    @field_validator("notify")
    @classmethod
    def _notify_is_an_address(cls, text: str | None) -> str | None:
        if text is not None and not re.match(r"https?://[^/]", text):
            raise ValueError("give a web address, such as https://hooks.example.com/night")
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

    @field_validator("modified_since")
    @classmethod
    def _modified_since_parses(cls, text: str | None) -> str | None:
        if text is not None:
            since_at(text, datetime.now().astimezone())
        return text

    @field_validator("delete")
    @classmethod
    def _delete_sees_everything(cls, delete: bool, info: ValidationInfo) -> bool:
        for name in ("limit", "modified_since") if delete else ():
            if info.data.get(name):
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"needs the complete listing, which {option} cuts short")
        return delete

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = fields(self)
        return {k: v for k, v in dumped.items() if k not in _OMITTED or v != _OMITTED[k]}

    @property
    def predictor_range(self) -> tuple[int, int] | None:
        """(min, max) predictors as requested, or None to let placement decide."""
        if self.predictors is None:
            return None
        low, _, high = self.predictors.partition(":")
        return int(low), int(high or low)

    def errors_allowed(self, processed: int | None, failed: int) -> float:
        """How many of `processed` images may fail; `failed` of them did.

        By default 1% or 100, whichever is more, but never more than succeeded: a run in which most
        images fail is over the limit, however small it is. During the listing the number
        of images is not known (None), and only a plain number is a limit.
        """
        if self.max_errors is not None and not self.max_errors.endswith("%"):
            return int(float(self.max_errors))
        if processed is None:
            return math.inf
        if self.max_errors is None:
            return max(processed // 100, min(ERRORS_ALLOWED, processed - failed))
        return int(processed * float(self.max_errors[:-1]) / 100)


def make_spec(**fields: Any) -> LabelSpec:
    """Build a spec. Raises SpecError, which names the bad field and its value."""
    try:
        return LabelSpec(**fields)
    except ValidationError as error:
        raise first_problem(error, LabelSpec.model_fields, SECRETS) from None


def parse_spec(document: str) -> LabelSpec:
    """A spec from its own JSON, as a job sends it. Raises SpecError."""
    try:
        return LabelSpec.model_validate_json(document)
    except ValidationError as error:
        raise first_problem(error, LabelSpec.model_fields, SECRETS) from None


def load_spec(config: Path | None, sets: Mapping[str, str], flags: Mapping[str, Any]) -> LabelSpec:
    """A spec from a TOML file, then `KEY=VALUE` settings, then flags; later ones win.

    Keys may be written with `-` or `_`. Settings are TOML values, or else plain strings.
    Raises SpecError if the file is missing or not TOML, and for any bad field.
    """
    fields = _read_toml(config) if config else {}
    fields |= {key: _toml_value(value) for key, value in sets.items()}
    fields = {key.replace("-", "_"): value for key, value in fields.items()}
    return make_spec(**fields | {k: v for k, v in flags.items() if v is not None and v != ()})


def deadline_at(text: str, now: datetime) -> datetime:
    """When a deadline is: `6h`, `90m`, `1h30m`, `45s` from now, or the next `06:30`.

    `now` must have a zone. A clock time is one of this machine's clock, also if daylight saving
    changes it before then. An ISO time with its zone is that moment, past or not.
    Raises ValueError.
    """
    if re.fullmatch(r"\d{4}-\d\d-\d\dT[^ ]+", text):
        return _moment(text)
    if clock := re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", text):
        return _next_on_the_clock(int(clock[1]), int(clock[2]), now)
    parts = re.fullmatch(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", text)
    if not text or parts is None:
        raise ValueError("give a duration such as 6h, 1h30m or 45s, or a clock time such as 06:30")
    hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    return now + timedelta(hours=hours, minutes=minutes, seconds=seconds)


def since_at(text: str, now: datetime) -> datetime:
    """The time that `--modified-since` means: a date, a date and time, or a duration before `now`.

    A date begins at midnight. Without a zone, this machine's zone is used. Raises ValueError.
    """
    problem = "give a date (2026-01-31), a time (2026-01-31T06:30) or a duration (7d, 36h)"
    if duration := re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?", text):
        days, hours, minutes = (int(part or 0) for part in duration.groups())
        if not text:
            raise ValueError(problem)
        try:
            return now - timedelta(days=days, hours=hours, minutes=minutes)
        except OverflowError:
            raise ValueError("that is before all dates; leave out the option") from None
    if not re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d\S*)?", text):
        raise ValueError(problem)
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{problem}: {error}") from None


def _next_on_the_clock(hour: int, minute: int, now: datetime) -> datetime:
    """The next moment at which this machine's clock shows that time.

    If a time comes twice, as clocks go back, the next of the two counts. A time that is skipped,
    as clocks go forward, becomes one that much after the change: 02:30 is then 03:30.
    """
    today = now.astimezone().replace(tzinfo=None, hour=hour, minute=minute, second=0, microsecond=0)
    days = [today, today + timedelta(days=1), today + timedelta(days=2)]
    first = [_shown_at(day) for day in days]
    second = [_shown_at(day.replace(fold=1)) for day in days]
    # The second of a skipped time is a moment before the change.
    moments = first + [at for at, day in zip(second, days, strict=True) if _clock(at) == day]
    return min(moment for moment in moments if moment > now)


def _shown_at(local: datetime) -> datetime:
    # Not `local.astimezone()`, which for a skipped time does the reverse of PEP 495.
    return datetime.fromtimestamp(local.timestamp(), UTC).astimezone()


def _clock(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min  # noqa: DTZ901 - without a zone, as below
    if moment.tzinfo is None:
        raise ValueError("give a time with its zone, such as 2026-01-31T06:30:00+01:00")
    return moment


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise SpecError("config", str(path), "no such file") from None
    except OSError as error:
        raise SpecError("config", str(path), f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError("config", str(path), f"not TOML: {error}") from None


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text

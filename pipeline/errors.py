"""All errors, in one tree.

    NightlabelError                      exit
    ├── SpecError                        2     a bad option, field or value
    ├── UnsafeFolderError                2     a folder of this machine that others can change
    ├── ImageError(code)                 -     one image; becomes a row, never an exit
    ├── TransientError(code)             -     retried, then a row marked transient
    ├── StoreError                       1     storage or the label store failed
    │   ├── MissingError                 1     no such object, folder or bucket
    │   ├── DeniedError                  1     credentials refused
    │   └── ConflictError                1     someone else wrote first
    ├── BusyError                        5     another run holds the lease
    ├── ModelError                       1     the model is out of reach, or no device holds it
    │   └── BadModelError                2     another one is needed: no classifier, a bad field
    ├── PlacementError                   1     the cluster cannot hold the graph
    ├── ClusterError                     1     a cluster or job server is down, or refuses
    └── GateError                        3     the request would breach a gate

Foreign exceptions are translated where they enter: in `storage` (object stores),
`images` (decoders), `models` (transformers) and `store.table` (Delta).
"""

from collections.abc import Iterable
from enum import IntEnum, StrEnum
from typing import Final


class Exit(IntEnum):
    """Exit codes of every command; an orchestrator may branch on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    GATE = 3
    INCOMPLETE = 4
    BUSY = 5
    INTERRUPTED = 130
    TERMINATED = 143

    @property
    def meaning(self) -> str:
        return EXIT_MEANINGS[self]


EXIT_MEANINGS = {
    Exit.OK: "every object that could be listed has a label or a permanent error",
    Exit.FAILED: "failed; the store is valid and the next run continues",
    Exit.USAGE: "bad usage, or a new recipe without `--new-recipe`",
    Exit.GATE: "too many errors (`--max-errors`; by default also if fewer than half of the "
    "images succeeded), or `verify` or `doctor` found problems",
    Exit.INCOMPLETE: "valid but incomplete: deadline, `--max-images`, or transient errors are left",
    Exit.BUSY: "another run is writing here",
    Exit.INTERRUPTED: "interrupted (SIGINT); what was labelled is committed",
    Exit.TERMINATED: "terminated (SIGTERM), or its job was stopped; what was labelled is committed",
}


class ErrorCode(StrEnum):
    """Why an object has no label: the closed list behind `LABELS.error_code`."""

    MISSING = "missing"
    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    UNDECODABLE = "undecodable"
    UNSUPPORTED = "unsupported"
    TOO_LARGE = "too_large"
    DENIED = "denied"
    CHANGED = "changed"
    TRANSIENT = "transient"
    CRASHED = "crashed"

    @property
    def transient(self) -> bool:
        """True if the next run tries again by itself."""
        return self in TRANSIENT_CODES

    @property
    def meaning(self) -> str:
        return MEANINGS[self]

    @property
    def advice(self) -> str:
        """How to fix it, in one or two sentences."""
        return ADVICE[self]


TRANSIENT_CODES = frozenset({ErrorCode.CHANGED, ErrorCode.TRANSIENT})

MEANINGS = {
    ErrorCode.MISSING: "the object did not exist when it was read, or its address is not one",
    ErrorCode.EMPTY: "the object has no bytes",
    ErrorCode.NOT_AN_IMAGE: "the content is not in a known image format, whatever its name says",
    ErrorCode.TRUNCATED: "the image data, or the archive that holds it, ends too early",
    ErrorCode.UNDECODABLE: "it begins like an image, but the decoder rejected it; or it is damaged "
    "in its archive",
    ErrorCode.UNSUPPORTED: "a known image format, mode, protocol or archive that is not supported "
    "here",
    ErrorCode.TOO_LARGE: "larger than --max-bytes or --max-pixels allows",
    ErrorCode.DENIED: "the store denied access to this object, or its address is not public",
    ErrorCode.CHANGED: "the object was replaced between listing and reading",
    ErrorCode.TRANSIENT: "the store kept failing (throttled, timed out, reset) after retries",
    ErrorCode.CRASHED: "it crashed the process that worked on it, or exceeded its time or memory "
    "limit",
}

ADVICE = {
    ErrorCode.MISSING: "Make a new list. Once the objects are back: `--retry-errors=missing`.",
    ErrorCode.EMPTY: "Upload the image again; the next run labels what has changed.",
    ErrorCode.NOT_AN_IMAGE: "Skip it with `--exclude`, or upload the image that it should be.",
    ErrorCode.TRUNCATED: "Upload the complete image; the next run labels what has changed.",
    ErrorCode.UNDECODABLE: "Open it in another program and save it again, or restore a copy.",
    ErrorCode.UNSUPPORTED: "Convert it, for example to JPEG or PNG, and upload the result.",
    ErrorCode.TOO_LARGE: "Raise `--max-bytes` or `--max-pixels`, and add "
    "`--retry-errors=too_large`.",
    ErrorCode.DENIED: "Give these credentials read access, or restore it from its archive class; "
    "then `--retry-errors=denied`. If its address is not public: `--allow-private`.",
    ErrorCode.CHANGED: "Nothing: the next run labels the new version.",
    ErrorCode.TRANSIENT: "Run again. If the error stays, its message says why: the store is down, "
    "or a signed address has expired.",
    ErrorCode.CRASHED: "If it took too long, raise `--max-seconds` and add "
    "`--retry-errors=crashed`; otherwise convert it and upload the result.",
}

#: The end of the message of each row that is `denied` because its address is not public; a run
#: with --allow-private recognises it. Stores contain this text, so it must not change.
NOT_PUBLIC: Final = "is no public address; --allow-private reads it all the same"


def error_codes(names: Iterable[str]) -> tuple[ErrorCode, ...]:
    """Error codes by name, without duplicates. Raises ValueError for an unknown name."""
    wanted = [name.strip() for name in names]
    if unknown := [name for name in wanted if name not in {*ErrorCode}]:
        known = ", ".join(sorted(ErrorCode))
        raise ValueError(f"{unknown[0]!r} is not an error code; the codes are {known}")
    return tuple(dict.fromkeys(map(ErrorCode, wanted)))


def printable(text: str) -> str:
    """`text` with all characters that control a terminal written out: an escape sequence is
    `\\x1b…`.

    Names of images, classes and files may come from anyone, and are shown on terminals and in logs.
    """
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )


class Terminated(KeyboardInterrupt):
    """SIGTERM, as KeyboardInterrupt is for Ctrl-C: an end, not an error."""


class NightlabelError(Exception):
    """Base of all errors that are meant for people: one line that says how to fix it."""

    exit_code: Exit = Exit.FAILED

    def __str__(self) -> str:
        return printable(" ".join(super().__str__().splitlines()))


class SpecError(NightlabelError):
    """A bad value in the specification of a job; names the field and the value."""

    exit_code = Exit.USAGE

    def __init__(self, field: str, value: object, problem: str) -> None:
        given = field if value is None else f"{field}={value!r}"
        super().__init__(f"{given}: {problem}")
        self.field, self.value, self.problem = field, value, problem

    def __reduce__(self) -> tuple[type, tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.problem)


class UnsafeFolderError(NightlabelError):
    """A folder of this machine in which other users could place files that we later read."""

    exit_code = Exit.USAGE


class _RowError(NightlabelError):
    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message

    def __reduce__(self) -> tuple[type, tuple[ErrorCode, str]]:
        return type(self), (self.code, self.message)


class ImageError(_RowError):
    """One image cannot be labelled; becomes its row."""


class TransientError(_RowError):
    """The store may answer better later; becomes a row marked transient after all retries."""

    def __init__(self, message: str, code: ErrorCode = ErrorCode.TRANSIENT) -> None:
        super().__init__(code, message)

    def __reduce__(self) -> tuple[type, tuple[str, ErrorCode]]:  # type: ignore[override]
        return type(self), (self.message, self.code)


class StoreError(NightlabelError):
    """Storage or the label store failed; the store is valid and the next run continues."""


class MissingError(StoreError):
    """No such object, folder or bucket."""


class DeniedError(StoreError):
    """The store refused our credentials."""


class ConflictError(StoreError):
    """Another writer came first: a conditional PUT or a Delta commit was refused."""


class BusyError(NightlabelError):
    """Another run holds the lease of this label store."""

    exit_code = Exit.BUSY


class ModelError(NightlabelError):
    """The model cannot be fetched or held now: the hub is down, no room, too little memory."""


class BadModelError(ModelError):
    """The model itself is at fault: not there, no classifier, a bad field, code of its own.

    Running again does not help; another model, or a corrected one, does.
    """

    exit_code = Exit.USAGE


class PlacementError(NightlabelError):
    """The machine or cluster cannot hold what the job asks for."""


class ClusterError(NightlabelError):
    """A cluster or its job server is down, refuses the request, or does not know a job."""


class GateError(NightlabelError):
    """The request would exceed a safety limit ("gate"); a limit exceeded during a run is the run's
    exit code."""

    exit_code = Exit.GATE

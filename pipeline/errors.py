"""Everything that can go wrong, in one tree.

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
    ├── ClusterError                     1     a cluster or job server is away, or refuses
    └── GateError                        3     what was asked would breach a gate

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
    Exit.GATE: "too many errors (`--max-errors`; by default also where fewer than half of the "
    "images succeeded), or `verify` or `doctor` found something wrong",
    Exit.INCOMPLETE: "valid but incomplete: deadline, `--max-images`, or transient errors are left",
    Exit.BUSY: "another run is writing here",
    Exit.INTERRUPTED: "interrupted (SIGINT); what was labelled is committed",
    Exit.TERMINATED: "terminated (SIGTERM), or its job was stopped; the same",
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
        """True if the next run tries again without being asked."""
        return self in TRANSIENT_CODES

    @property
    def meaning(self) -> str:
        return MEANINGS[self]

    @property
    def advice(self) -> str:
        """What to do about it, in one sentence or two."""
        return ADVICE[self]


TRANSIENT_CODES = frozenset({ErrorCode.CHANGED, ErrorCode.TRANSIENT})

MEANINGS = {
    ErrorCode.MISSING: "the object was not there when it was read, or its address is none",
    ErrorCode.EMPTY: "the object has no bytes",
    ErrorCode.NOT_AN_IMAGE: "the content is of no known image format, whatever the name says",
    ErrorCode.TRUNCATED: "the image ends too soon",
    ErrorCode.UNDECODABLE: "an image by its first bytes, but its decoder refused it",
    ErrorCode.UNSUPPORTED: "a known image format, mode or protocol that is not supported here",
    ErrorCode.TOO_LARGE: "over --max-bytes or --max-pixels, found before decoding",
    ErrorCode.DENIED: "the store refused to let this object be read, or its address is not public",
    ErrorCode.CHANGED: "the object was replaced between listing and reading",
    ErrorCode.TRANSIENT: "the store kept failing (throttled, timed out, reset) after retries",
    ErrorCode.CRASHED: "it ended the process that worked on it, or exceeded its time or its memory",
}

ADVICE = {
    ErrorCode.MISSING: "Make the list anew. Once the objects are back: `--retry-errors=missing`.",
    ErrorCode.EMPTY: "Upload the image again; what changes is labelled by itself.",
    ErrorCode.NOT_AN_IMAGE: "Leave it out with `--exclude`, or upload the image that it should be.",
    ErrorCode.TRUNCATED: "Upload the whole image; what changes is labelled by itself.",
    ErrorCode.UNDECODABLE: "Open it in another program: save it anew there, or restore a copy.",
    ErrorCode.UNSUPPORTED: "Convert it, to JPEG or PNG for instance, and upload that.",
    ErrorCode.TOO_LARGE: "Raise `--max-bytes` or `--max-pixels`, with `--retry-errors=too_large`.",
    ErrorCode.DENIED: "Let these credentials read it, or restore it from the archive class; then "
    "`--retry-errors=denied`. If its address is not public: `--allow-private`.",
    ErrorCode.CHANGED: "Nothing: the next run labels what is there then.",
    ErrorCode.TRANSIENT: "Run again. If it stays, the message says why: a store that is away, a "
    "signed address that has expired.",
    ErrorCode.CRASHED: "Raise `--max-seconds` if it took too long, with `--retry-errors=crashed`; "
    "else convert it and upload that.",
}

#: Ends the message of each row that is `denied` since its address is not public, so that a run
#: with --allow-private knows it again. Stores hold it: it must not change.
NOT_PUBLIC: Final = "is no public address; --allow-private reads it all the same"


def error_codes(names: Iterable[str]) -> tuple[ErrorCode, ...]:
    """The codes of these names, each once. Raises ValueError for one that is none."""
    wanted = [name.strip() for name in names]
    if unknown := [name for name in wanted if name not in {*ErrorCode}]:
        known = ", ".join(sorted(ErrorCode))
        raise ValueError(f"{unknown[0]!r} is no error code; known are {known}")
    return tuple(dict.fromkeys(map(ErrorCode, wanted)))


def printable(text: str) -> str:
    """`text` with whatever controls a terminal spelled out: an escape sequence is `\\x1b…`.

    Names of images, classes and files are anybody's, and end on terminals and in logs.
    """
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )


class Terminated(KeyboardInterrupt):
    """SIGTERM, where Ctrl-C raises KeyboardInterrupt: an end, and no error."""


class NightlabelError(Exception):
    """Base of all errors that are meant for people: one clear line that names the mend."""

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
    """A folder of this machine in which other users could plant what is read back from it."""

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
    """The store may answer better later; a row marked transient once retries are used up."""

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
    """The model cannot be had or held now: the hub is away, no room, too little memory."""


class BadModelError(ModelError):
    """The model itself is at fault: not there, no classifier, a bad field, code of its own.

    Running again changes nothing; another model, or a mended one, does.
    """

    exit_code = Exit.USAGE


class PlacementError(NightlabelError):
    """The machine or cluster cannot hold what the job asks for."""


class ClusterError(NightlabelError):
    """A cluster or its job server is away, refuses what is asked, or does not know a job."""


class GateError(NightlabelError):
    """What was asked would breach a gate; a breach found on the way is a run's exit code."""

    exit_code = Exit.GATE

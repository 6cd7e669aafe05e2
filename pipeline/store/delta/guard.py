"""Checks a Delta log before it is read: delta-rs reads any file it finds, of any size.

Commits are read piece by piece, so a limit on their size is enough. A checkpoint is Parquet, and
its unpacked size is limited. The listing begins where delta-rs begins to read.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, Field, ValidationError

from pipeline.errors import MissingError, StoreError
from pipeline.parquet import open_parquet, refuse_larger
from pipeline.storage import Entry, Folder, public
from pipeline.store.parts import UNREADABLE

LOG: Final = "_delta_log/"
HINT: Final = f"{LOG}_last_checkpoint"

#: A commit of ten thousand files has some 20 MB.
LOG_FILE_BYTES: Final = 128 * 2**20
#: The checkpoint and the commits after it. There is a checkpoint every 20 commits.
LOG_BYTES: Final = 512 * 2**20
LOG_FILES: Final = 100_000
_HINT_BYTES: Final = 64 * 2**10
_UNPACKED_BYTES: Final = 64 * 2**20
_UNPACKED_RATIO: Final = 64
#: The highest version after which a run may still write.
_LAST_VERSION: Final = 2**60

_COMMIT: Final = re.compile(r"\d{20}\.json")
_CHECKPOINT: Final = re.compile(r"(\d{20})\.checkpoint(\.\d{10}\.\d{10})?\.parquet")
#: Names that delta-rs reads as well and no run of ours writes: they may name files anywhere.
_STRANGE: Final = re.compile(
    r"\d{20}\.checkpoint\..*|\d{20}\.\d{20}\.compacted\.json|_sidecars/.*|_staged_commits/.*"
)


class _Hint(BaseModel):
    version: int = Field(ge=0)


def check_log(folder: Folder, after: int | None = None) -> None:
    """Check what a reader of the log is about to read; with `after`, only later commits.

    Raises StoreError, which names the file.
    """
    start = _hinted(folder) if after is None else after + 1
    entries = list(islice(_listed(folder, start), LOG_FILES + 1))
    if len(entries) > LOG_FILES:
        raise StoreError(
            f"{public(folder.uri)}: {LOG} holds over {LOG_FILES:,} files since its last "
            "checkpoint: another program has written here"
        )
    for name, entry in entries:
        if _STRANGE.fullmatch(name) and not _CHECKPOINT.fullmatch(name):
            _refuse(entry, "is of a kind that no run of ours writes: delete it")
        if entry.size > LOG_FILE_BYTES:
            _refuse(entry, f"has {entry.size:,} bytes, over the {LOG_FILE_BYTES:,} of any of ours")
    checkpoint = _newest(entries)
    if after is None and start and checkpoint < start:
        raise _bad_hint(folder, f"names version {start}, which has no checkpoint")
    _check_read(folder, entries, checkpoint)


def _hinted(folder: Folder) -> int:
    """The version that `_last_checkpoint` names, 0 if there is no such file or it is unreadable."""
    try:
        return _Hint.model_validate_json(folder.read(HINT, at_most=_HINT_BYTES)).version
    except (MissingError, ValidationError):
        return 0


def _listed(folder: Folder, start: int) -> Iterator[tuple[str, Entry]]:
    """The log's files from a version on, by their names in it."""
    for entry in folder.list(LOG, after=f"{LOG}{start:020}" if start else ""):
        yield folder.relative(entry.uri).removeprefix(LOG), entry


def _newest(entries: Sequence[tuple[str, Entry]]) -> int:
    found = (_CHECKPOINT.fullmatch(name) for name, _ in entries)
    return max((int(one[1]) for one in found if one), default=-1)


def _check_read(folder: Folder, entries: Sequence[tuple[str, Entry]], checkpoint: int) -> None:
    left = LOG_BYTES
    for name, entry in entries:
        version = int(name[:20]) if name[:20].isdigit() else -1
        if _COMMIT.fullmatch(name) and version > checkpoint:
            if version > _LAST_VERSION:
                _refuse(entry, "has a version that no run reaches: delete it")
            left -= entry.size
        elif _CHECKPOINT.fullmatch(name) and version == checkpoint:
            left -= entry.size
            _check_checkpoint(folder.uri, f"{LOG}{name}", entry)
        if left < 0:
            raise StoreError(
                f"{public(folder.uri)}: {LOG} has over {LOG_BYTES:,} bytes to read, "
                f"up to {name}: another program has written here"
            )


@lru_cache(maxsize=256)
def _check_checkpoint(uri: str, path: str, entry: Entry) -> None:
    """Once for each state of the file."""
    data = Folder(uri).read(path, at_most=LOG_FILE_BYTES)
    try:
        open_checkpoint(data)
    except UNREADABLE as error:
        problem = str(error).partition("\n")[0]
        _refuse(entry, f"is not a checkpoint of a Delta log: {problem}")


def open_checkpoint(data: bytes) -> pq.ParquetFile:
    """Raises UNREADABLE if it is not a Parquet file, or would take more memory than any of ours."""
    opened = open_parquet(pa.BufferReader(data), data[-8:], len(data))
    names = {column.partition(".")[0] for column in _columns(opened.metadata)}
    refuse_larger(opened, data, names, _UNPACKED_BYTES + _UNPACKED_RATIO * len(data))
    return opened


def _columns(footer: Any) -> list[str]:
    return [str(footer.schema.column(leaf).path) for leaf in range(footer.num_columns)]


def blame(folder: Folder) -> str:
    """The file that makes a log unreadable, in brackets, as far as it can be determined."""
    entries = list(_listed(folder, _hinted(folder)))
    due = _newest(entries) + 1
    commits = [name for name, _ in entries if _COMMIT.fullmatch(name) and int(name[:20]) >= due]
    for name in sorted(commits):
        if int(name[:20]) != due:
            return f" ({LOG}{due:020}.json is missing)"
        try:
            lines = folder.read(f"{LOG}{name}", at_most=LOG_FILE_BYTES).splitlines()
            if not all(isinstance(json.loads(line), dict) for line in lines):
                return f" ({LOG}{name} is not a commit)"
        except (ValueError, RecursionError):
            return f" ({LOG}{name} is not a commit)"
        due += 1
    return f" (in {LOG}, up to {max(commits, default='its last checkpoint')})"


def _refuse(entry: Entry, problem: str) -> NoReturn:
    raise StoreError(f"{public(entry.uri)} {problem}")


def _bad_hint(folder: Folder, problem: str) -> StoreError:
    return StoreError(
        f"{public(folder.uri_of(HINT))} {problem}: delete it, and the log is read without it"
    )

"""JSON lines at a path or in a bucket, written by a thread: no store holds a run up."""

import queue
import threading
import time
from pathlib import Path
from typing import Final, Protocol, Self

from pipeline.errors import DeniedError, MissingError, NightlabelError, SpecError, StoreError
from pipeline.events.kinds import Event
from pipeline.storage import Folder, canonical, local_path, open_to_append, public

#: A bucket has no appending: the whole object is written anew, this often at most.
UPLOAD_SECONDS: Final = 30.0

_ENDINGS: Final = (".jsonl", ".ndjson", ".json", ".log")


class Target(Protocol):
    """Where lines go. `write` gets new ones, and those that it failed with before."""

    every: float

    def write(self, lines: bytes) -> None: ...


class EventLog:
    """Takes events at once; a thread writes them."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._work, name="events", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, uri: str, run_id: str) -> Self:
        """Raises SpecError for a target that cannot be written to."""
        return cls(_target(uri, run_id))

    def tell(self, event: Event) -> None:
        self._queue.put(event.line())

    def close(self, seconds: float) -> str | None:
        """Write what is left, within this time; what went wrong, if anything did at last."""
        self._queue.put(None)
        self._thread.join(seconds)
        return "not written in time" if self._thread.is_alive() else self._problem

    def _work(self) -> None:
        lines, more = b"", True
        while more:
            found, more = self._gather(self._target.every)
            lines += found
            try:
                self._target.write(lines)
                lines, self._problem = b"", None
            except NightlabelError as error:
                self._problem = str(error)

    def _gather(self, seconds: float) -> tuple[bytes, bool]:
        """Lines of this time, which an end cuts short, and whether there will be others."""
        until = time.monotonic() + seconds
        lines = [self._queue.get()]
        while lines[-1] is not None:
            try:
                lines.append(self._queue.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                break
        return b"".join(line for line in lines if line), lines[-1] is not None


class _File:
    """A file that grows from night to night; see `open_to_append` for links."""

    every = 0.0

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.write(b"")
        except (StoreError, OSError, ValueError) as error:  # the last for a NUL in the name
            raise SpecError("events", str(path), f"cannot be written to: {error}") from None

    def write(self, lines: bytes) -> None:
        try:
            with open_to_append(self._path) as file:
                file.write(lines)
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from None


class _Object:
    """An object in a bucket: all lines of one run."""

    every = UPLOAD_SECONDS

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder, self._name, self._lines = folder, name, b""
        try:
            folder.put(name, b"")
        except (DeniedError, MissingError) as error:
            raise SpecError("events", public(folder.uri), str(error)) from None
        except StoreError:
            pass  # it may be away for a moment; the end of the run tells if it stays so

    def write(self, lines: bytes) -> None:
        self._folder.put(self._name, self._lines + lines)
        self._lines += lines


def _target(uri: str, run_id: str) -> Target:
    whole = canonical(uri)
    path = local_path(uri)
    if path is not None:
        is_folder = uri.endswith("/") or path.is_dir()
        return _File(path / f"{run_id}.jsonl" if is_folder else path)
    parent, _, name = whole.rpartition("/")
    if not name.endswith(_ENDINGS):
        parent, name = whole.rstrip("/"), f"{run_id}.jsonl"
    try:
        return _Object(Folder(parent), name)
    except SpecError as error:
        raise SpecError("events", public(whole), error.problem) from None
